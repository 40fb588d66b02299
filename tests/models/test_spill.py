"""The folder for converted weights: there as long as its owner, and gone whatever happens."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from exitbench.errors import ModelError
from exitbench.models.spill import spill_folder


class Owner:
    pass


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "offload").iterdir())


def write(folder: Path) -> None:
    folder.mkdir()
    (folder / "weight").write_text("x")


def test_lives_as_long_as_its_owner(cache: Path) -> None:
    """Bug: weights removed while a model reads them, or left on disk when it is gone."""
    owner = Owner()
    with spill_folder() as spill:
        write(spill.folder)
        spill.keep_for(owner)
    with spill_folder() as other:  # clears away what nobody uses
        assert (spill.folder / "weight").exists()
        other.remove()
    del owner
    gc.collect()
    assert left(cache) == []


def test_removed_when_loading_fails(cache: Path) -> None:
    """Bug: gigabytes left behind by a load that broke off."""

    def fill(folder: Path) -> None:
        write(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="full"), spill_folder() as spill:
        fill(spill.folder)
    assert left(cache) == []


def test_removed_after_the_process(cache: Path) -> None:
    """Bug: gigabytes left by every run, or for ever by one that was killed."""
    code = """if True:
        import os, signal, sys
        from exitbench.models.spill import spill_folder
        class Owner: pass
        owner = Owner()
        with spill_folder() as spill:
            spill.folder.mkdir()
            spill.keep_for(owner)
        if sys.argv[1] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", code, "ended"], check=True)
    assert left(cache) == []
    assert subprocess.run([sys.executable, "-c", code, "killed"], check=False).returncode != 0
    assert len(left(cache)) == 2
    with spill_folder() as spill:
        assert left(cache) == [f"{spill.folder.name}.lock"]
        spill.remove()


def test_cache_that_cannot_be_written(cache: Path) -> None:
    """Bug: a traceback."""
    cache.write_text("a file")
    with pytest.raises(ModelError, match=r"cannot write .*offload.*EXITBENCH_CACHE"), spill_folder():
        pass
