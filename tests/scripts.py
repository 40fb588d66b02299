"""Scripts of the project run in this process, where what they import is there already: a second in place of six."""

import io
import os
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

from exitbench.policies import POLICIES

__all__ = ["said_by"]


def said_by(script: Path, *arguments: object) -> str:
    """What a script prints on standard output when it is run with its arguments.

    Modules beside the script are found, as they would be, and forgotten again; so is what it registers or puts into
    the environment.

    Raises:
        SystemExit: what the script ends with, unless that is success.
    """
    out = io.StringIO()
    with (
        patch.object(sys, "argv", [str(script), *map(str, arguments)]),
        patch.object(sys, "path", [str(script.parent), *sys.path]),
        patch.dict(os.environ),
        patch.dict(POLICIES._entries),
        redirect_stdout(out),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            if end.code not in (None, 0):
                raise
        finally:
            beside = [name for name, module in sys.modules.items() if _lies_in(script.parent, module)]
            for name in beside:
                del sys.modules[name]
    return out.getvalue()


def _lies_in(folder: Path, module: object) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).parent == folder
