"""transformers made strict, and quiet enough for a command line.

transformers fills tensors that are missing or of another shape with random numbers and prints a warning. Here
that is an error. So its warnings and progress bars can be held back while it loads, and its errors, which run
over paragraphs, are put on one line.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from tqdm.auto import tqdm  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, PreTrainedModel, modeling_gguf_pytorch_utils, modeling_utils
from transformers.utils import logging as transformers_logging

from exitbench.errors import ModelError

__all__ = ["LOAD_ERRORS", "load_weights", "one_line", "quiet_transformers"]

# What from_pretrained raises on files that are malformed, unsupported or do not fit together.
LOAD_ERRORS = (
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
_MAX_CHARS = 300
# Loosely typed upstream: with output_loading_info a pair comes back.
_AUTO_MODEL: Any = AutoModelForCausalLM


class _NoBar(tqdm):  # type: ignore[misc]
    """A progress bar that shows nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back progress bars and warnings of transformers and accelerate inside the block."""
    log: Any = transformers_logging
    gguf_reader: Any = modeling_gguf_pytorch_utils
    accelerate_log = logging.getLogger("accelerate")
    verbosity, accelerate_level = log.get_verbosity(), accelerate_log.level
    had_bars = log.is_progress_bar_enabled()
    log.set_verbosity_error()
    accelerate_log.setLevel(logging.ERROR)
    log.disable_progress_bar()
    # The GGUF reader takes its bar straight from tqdm, past transformers' own switch.
    gguf_reader.tqdm = _NoBar
    try:
        yield
    finally:
        gguf_reader.tqdm = tqdm
        log.set_verbosity(verbosity)
        accelerate_log.setLevel(accelerate_level)
        if had_bars:
            log.enable_progress_bar()


@contextmanager
def _unmapped() -> Iterator[None]:
    """Have weight files read tensor by tensor inside the block, not mapped.

    Mapped weights that are used as they are cost no copy. Those that are cast are copied anyway, and the pages of the
    files would stay in memory beside the copies until the last one is made.
    """
    library: Any = modeling_utils

    def reading(file: Any, **options: Any) -> Any:
        return safe_open(file, **{**options, "backend": "pread"})

    library.safe_open = reading
    try:
        yield
    finally:
        library.safe_open = safe_open


def one_line(error: BaseException) -> str:
    """Return the message of `error` on one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "..."


def load_weights(folder: Path, *, subject: str, cast: bool = False, **options: Any) -> PreTrainedModel:
    """Load a causal language model of which every tensor is in the checkpoint, in the right shape.

    Args:
        folder: with the checkpoint's files.
        subject: what is loaded, for messages, e.g. "the weights of org/name".
        cast: the weights are stored in another dtype than asked for.
        options: more arguments of `from_pretrained`.

    Raises:
        ModelError: the files cannot be read, or do not give the whole model.
    """
    try:
        with quiet_transformers(), _unmapped() if cast else nullcontext():
            model: PreTrainedModel
            model, info = _AUTO_MODEL.from_pretrained(
                folder,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                **options,
            )
    except ImportError as error:  # names the package that a quantisation or an attention implementation needs
        raise ModelError(f"cannot load {subject}, a package is missing: {one_line(error)}; install it") from error
    except ValueError as error:  # options, config and files that do not go together; transformers says which
        raise ModelError(f"cannot load {subject}: {one_line(error)}") from error
    except LOAD_ERRORS as error:
        raise ModelError(f"cannot read {subject}: {one_line(error)}; is the file whole?") from error
    # Tensors of another shape are told apart first, for they count as missing too.
    for name, found, expected in sorted(info["mismatched_keys"]):
        raise ModelError(
            f"{subject} have {name} of shape {tuple(found)}, expected {tuple(expected)} by the config; "
            "get a checkpoint whose files belong together"
        )
    places = model.state_dict().keys()
    dropped = [name for name in sorted(info["unexpected_keys"]) if _is_of_a_further_block(name, places)]
    if dropped:
        raise ModelError(
            f"{subject} hold blocks that the config leaves out, e.g. {dropped[0]}; mend the number of blocks in "
            "config.json, or take those tensors out of the checkpoint"
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"{subject} lack {len(missing)} tensors, e.g. {missing[0]}, which would be random; get "
            "a complete checkpoint of a causal language model"
        )
    return model


def _is_of_a_further_block(name: str, places: Collection[str]) -> bool:
    """Whether a tensor that found no place would have one in a block of the same list."""
    path, _, rest = name.rpartition(".")
    parts = path.split(".")
    return any(
        ".".join([*parts[:i], "0", *parts[i + 1 :], rest]) in places for i, part in enumerate(parts) if part.isdigit()
    )
