"""GGUF files, converted once to an ordinary safetensors folder.

transformers can read GGUF, but it dequantises the file and rebuilds its tokeniser on every load (15 s for a
model of 135 M parameters). So a file is converted once to float32 safetensors in the cache, under the file's
own sha256, and loaded from there ever after. float32 because dequantised values are float32: any narrower
type would be a second rounding.

A conversion is kept only if it is proved: every number in the file has a place in the model, no parameter of
the model lacks one, and the saved folder loads back to the same tensors and the same token ids.

Non-goals: keeping weights packed, GGUF as an output.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from exitbench.errors import ModelError
from exitbench.models.cache import build_folder, cache_root
from exitbench.models.strict import LOAD_ERRORS, load_weights, one_line, quiet_transformers

__all__ = ["Conversion", "convert", "read_conversion"]

# Part of the cache path: raise it when a change here gives other files for the same GGUF.
_LAYOUT = "gguf-1"
# Pre-tokenisers that cut digits one by one before GPT-2's own split, by their name in GGUF. transformers
# knows no rule for them and falls back on GPT-2's split alone, which cuts "\n\n1" as "\n", "\n", "1" where
# training saw "\n\n", "1".
_DIGIT_SPLITTERS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
# Names whose split is GPT-2's own.
_GPT2_SPLITTERS = frozenset({"gpt-2", "phi-2", "mpt", "olmo", "jais"})
_FULL_PRECISION = frozenset({"F32", "F16", "BF16"})
_PROBE_TEXTS = (
    "The capital of France is Paris.",
    "  two  spaces\n\n1. first\n\n22. second\n\tdef f(x):\n        return x2 ** 10",
    "na\u00efve caf\u00e9 \u4e2d\u6587 \U0001f600 don't I'LL",
)


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Where a converted folder came from, kept in its conversion.json.

    Attributes:
        gguf_sha256: of the GGUF file.
        quantisation: e.g. "GGUF Q4_1"; None if the file holds 16- or 32-bit floats.
        licence: as the file states it.
        warning: doubt that the user should know of, if any.
        transformers: version that read the file.
    """

    gguf_sha256: str
    quantisation: str | None
    licence: str | None
    warning: str | None
    transformers: str


def read_conversion(folder: Path) -> Conversion:
    """Return the provenance of a converted folder."""
    return Conversion(**json.loads((folder / "conversion.json").read_text(encoding="utf-8")))


def convert(gguf_sha256: str, provide: Callable[[Path], Path], *, name: str, progress: Callable[[str], None]) -> Path:
    """Convert a GGUF file to a safetensors folder in the cache, unless that has been done.

    Args:
        gguf_sha256: of the file.
        provide: given a scratch folder, returns the path of the file; called only if there is work to do.
        name: of the model, for messages.
        progress: receives lines for people.

    Returns:
        Folder with config.json, generation_config.json, model.safetensors (float32), the tokeniser's files
        and conversion.json.

    Raises:
        ModelError: the file cannot be read, or its conversion cannot be proved right.
    """

    def fill(folder: Path) -> None:
        scratch = folder / "scratch"
        scratch.mkdir()
        source = provide(scratch)
        progress(f"converting {name} to safetensors (once; up to a minute)")
        # A folder of its own: transformers would also read other files it finds beside the GGUF.
        link = scratch / "model.gguf"
        link.symlink_to(source.resolve())
        _convert_file(link, folder, gguf_sha256=gguf_sha256, name=name)
        for path in sorted(scratch.iterdir()):
            path.unlink()
        scratch.rmdir()

    return build_folder(cache_root() / _LAYOUT / gguf_sha256, fill)


def _convert_file(path: Path, folder: Path, *, gguf_sha256: str, name: str) -> None:
    try:
        header = gguf.GGUFReader(path)
        _check_whole(header, name)
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except LOAD_ERRORS as error:
        raise ModelError(f"cannot read the GGUF file of {name}: {one_line(error)}; is it whole?") from error
    loaded = load_weights(path.parent, subject=f"the GGUF weights of {name}", gguf_file=path.name, dtype=torch.float32)
    _check_all_read(header, loaded, name)
    pre_tokenizer = _field(header, "tokenizer.ggml.pre")
    warning = _fix_split(tokenizer, pre_tokenizer)
    plain = _without_quantiser(loaded)
    try:
        with quiet_transformers():
            plain.save_pretrained(folder)
    except SafetensorError as error:
        raise ModelError(f"cannot write the converted {name} to {folder}: {one_line(error)}") from error
    _save_tokenizer(tokenizer, folder, pre_tokenizer)
    _prove(plain, tokenizer, folder, name)
    conversion = Conversion(
        gguf_sha256=gguf_sha256,
        quantisation=_quantisation(_field(header, "general.file_type")),
        licence=_field(header, "general.license"),
        warning=warning,
        transformers=transformers.__version__,
    )
    (folder / "conversion.json").write_text(json.dumps(asdict(conversion), indent=2) + "\n", encoding="utf-8")


def _field(header: gguf.GGUFReader, key: str) -> Any:
    field = header.get_field(key)
    return None if field is None else field.contents()


def _check_whole(header: gguf.GGUFReader, name: str) -> None:
    num_splits = _field(header, "split.count") or 1
    if num_splits > 1:
        raise ModelError(
            f"the GGUF file of {name} is one of {num_splits} pieces; join them first with llama.cpp's "
            "`llama-gguf-split --merge`"
        )


def _check_all_read(header: gguf.GGUFReader, model: PreTrainedModel, name: str) -> None:
    """Refuse a file with numbers that found no place in the model.

    transformers drops tensors it does not know, such as the rotary frequency factors of Llama 3.1, without an
    error.
    """
    num_stored = sum(int(np.prod(tensor.shape)) for tensor in header.tensors)
    num_read = sum(parameter.numel() for parameter in model.parameters())
    if num_stored != num_read:
        factors = [tensor.name for tensor in header.tensors if tensor.name.startswith("rope_")]
        hint = f" ({', '.join(factors)} among them)" if factors else ""
        raise ModelError(
            f"transformers {transformers.__version__} read {num_read} of the {num_stored} numbers in the "
            f"GGUF file of {name}{hint}, so it would be measured wrongly; use the model's safetensors instead"
        )


def _fix_split(tokenizer: PreTrainedTokenizerBase, pre_tokenizer: str | None) -> str | None:
    """Cut digits where the file's pre-tokeniser asks for it; return a warning if its rule is not known."""
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        return None  # SentencePiece, or a split that transformers took from the file
    if pre_tokenizer in _DIGIT_SPLITTERS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        return None
    if pre_tokenizer in _GPT2_SPLITTERS:
        return None
    return (
        f"the GGUF file names the pre-tokeniser {pre_tokenizer!r}, whose rule is not known; text is cut as "
        "GPT-2 does, so some token boundaries may differ from training"
    )


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path, pre_tokenizer: str | None) -> None:
    tokenizer.save_pretrained(folder)
    if pre_tokenizer in _DIGIT_SPLITTERS:
        # Named by its own class, e.g. GPT-2's, the tokeniser would get that class's split again on loading.
        path = folder / "tokenizer_config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _without_quantiser(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the same class and tensors that does not call itself quantised.

    The weights are plain float32 by now, but the loaded object and its config still carry the GGUF quantiser,
    which refuses to be saved. `_model_name_or_path` is the file's own title.
    """
    fields = model.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path", "_name_or_path"):
        fields.pop(key, None)
    config = type(model.config).from_dict(fields)
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        plain: PreTrainedModel = auto.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain


def _prove(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, name: str) -> None:
    """Check that the saved folder gives back the same tensors, token ids and chat template."""
    again = load_weights(folder, subject=f"the converted weights of {name}", use_safetensors=True)
    with quiet_transformers():
        tokenizer_again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    saved, wanted = again.state_dict(), model.state_dict()
    changed = [key for key in wanted if key not in saved or not torch.equal(wanted[key], saved[key])]
    if changed or saved.keys() != wanted.keys():
        raise ModelError(f"the converted {name} does not load back the same, e.g. {(changed or list(saved))[0]}")
    texts = [*_PROBE_TEXTS, "".join(tokenizer.all_special_tokens), *tokenizer.all_special_tokens]
    changed = [text for text in texts if tokenizer(text).input_ids != tokenizer_again(text).input_ids]
    if changed or tokenizer.chat_template != tokenizer_again.chat_template:
        raise ModelError(f"the converted tokeniser of {name} does not load back the same, e.g. on {changed[:1]}")


def _quantisation(file_type: int | None) -> str | None:
    """Return "GGUF Q4_K_M" and the like from GGUF's general.file_type; None for plain floats."""
    if file_type is None:
        return "GGUF of unstated type"
    try:
        label = gguf.LlamaFileType(file_type).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return f"GGUF type {file_type}"
    return None if label in _FULL_PRECISION else f"GGUF {label}"
