"""A tuned lens: one affine map a depth, by which a hidden state is read out as if it had come from the last block.

Belrose et al., "Eliciting Latent Predictions from Transformers with the Tuned Lens" (arXiv 2303.08112), equation 8:
h is read out as h + A h + b, with A and b of its depth, in front of the model's own norm and head. Before any training
A and b are 0, and the tuned lens is the logit lens to the last bit. Depth L is the model itself and is never
translated, so that what "final" means is the same through every lens.

Weights are kept in float32; they are applied in the dtype of the hidden states, in training as well as in tracing. A
lens is only ever applied to the very weights that it was trained for.

Non-goals: one lens for several models, and maps that are not affine.

Shapes: L blocks, R rows (tokens), D hidden size.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch.nn import functional

from exitbench.config import TUNED
from exitbench.errors import LensError
from exitbench.lens.tensors import read_tensors, write_tensors
from exitbench.models.load import LoadedModel
from exitbench.models.readout import filled_up

__all__ = ["FORMAT_VERSION", "Origin", "Translators", "read_translators", "translate", "translators_for"]

FORMAT_VERSION = 1
_SHOWN_DIGITS = 16


class Origin(pydantic.BaseModel):
    """Where a lens comes from: everything that decides its numbers."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format_version: int = FORMAT_VERSION
    model: str
    weights_sha256: str
    config_sha256: str | None
    revision: str | None
    num_blocks: int
    hidden_size: int
    workload: str
    """Name of the text."""
    workload_sha256: str
    document_tokens: int
    """Length of the documents that the text was cut into."""
    tokens: int
    """Seen in training."""
    steps: int
    learning_rate: float
    """Of the first step."""
    seed: int
    dtype: str
    device: str
    """Type of the device."""
    libraries: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Translators:
    """The affine maps of all depths below L."""

    weights: torch.Tensor
    """(L, D, D): A of each depth."""
    biases: torch.Tensor
    """(L, D): b of each depth."""
    origin: Origin
    name: str
    """The readout's name in a trace: "tuned:" and the first 16 digits of a sha256 over the file's tensors."""

    def __call__(self, hidden_LRD: torch.Tensor) -> torch.Tensor:
        """(L + 1, R, D) what is to be read out in place of hidden states after 0..L blocks; the last ones as they are.

        A row does not depend on the others.
        """
        rows = hidden_LRD.shape[1]
        with torch.inference_mode():
            translated = hidden_LRD.clone()
            for depth, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                translated[depth] = translate(filled_up(hidden_LRD[depth]), weight, bias)[:rows]
            return translated

    def save(self, path: Path) -> None:
        """Write the file that `read_translators` reads."""
        tensors = {"weights": self.weights, "biases": self.biases}
        write_tensors(path, tensors, self.origin.model_dump(mode="json"))

    @classmethod
    def of(cls, weights: torch.Tensor, biases: torch.Tensor, origin: Origin) -> "Translators":
        """These maps, named after their numbers.

        Raises:
            LensError: shapes, dtypes or numbers that cannot be a lens.
        """
        blocks, width = origin.num_blocks, origin.hidden_size
        shapes = tuple(weights.shape), tuple(biases.shape)
        if shapes != ((blocks, width, width), (blocks, width)) or {weights.dtype, biases.dtype} != {torch.float32}:
            raise LensError(f"the tensors of the lens have shapes {shapes}, expected float32 of {blocks} x {width}")
        if not (weights.isfinite().all() and biases.isfinite().all()):
            raise LensError("numbers of the lens are not finite; train it with a lower --learning-rate")
        digest = hashlib.sha256()
        for tensor in (weights, biases):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        name = TUNED + digest.hexdigest()[:_SHOWN_DIGITS]
        return cls(weights=weights, biases=biases, origin=origin, name=name)


def translate(hidden_RD: torch.Tensor, weight_DD: torch.Tensor, bias_D: torch.Tensor) -> torch.Tensor:
    """(R, D) h + A h + b, in the dtype of the hidden states."""
    dtype = hidden_RD.dtype
    return hidden_RD + functional.linear(hidden_RD, weight_DD.to(dtype), bias_D.to(dtype))


def read_translators(path: Path) -> Translators:
    """Read a lens.

    Raises:
        LensError: the file is missing, damaged, of another kind or of a newer format.
    """
    tensors, record = read_tensors(path)
    if record.get("format_version") != FORMAT_VERSION:
        raise LensError(
            f"{path} has format version {record.get('format_version')}, this exitbench reads version "
            f"{FORMAT_VERSION}; upgrade exitbench or train it again"
        )
    try:
        return Translators.of(tensors["weights"], tensors["biases"], Origin.model_validate(record))
    except (KeyError, pydantic.ValidationError, LensError) as error:
        reason = " ".join(str(error).split())[:160]
        raise LensError(f"{path} is no lens, or a damaged one ({reason}); train it again") from error


def translators_for(loaded: LoadedModel, readout: str) -> Translators | None:
    """The lens of a readout, ready for a model's hidden states; None for the logit lens.

    Args:
        loaded: a validated model.
        readout: "logit", or "tuned:" and the path of a lens.

    Raises:
        LensError: the file cannot be read, or the lens was trained for another model.
    """
    if readout == "logit":
        return None
    path = Path(readout.removeprefix(TUNED))
    translators = read_translators(path)
    _refuse_other_model(path, translators.origin, loaded)
    hidden = loaded.readout.probe_KTD
    place: dict[str, Any] = {"dtype": hidden.dtype, "device": hidden.device}
    return replace(translators, weights=translators.weights.to(**place), biases=translators.biases.to(**place))


def _refuse_other_model(path: Path, origin: Origin, loaded: LoadedModel) -> None:
    source = loaded.source
    for kind, made_for, got in (
        ("weights", origin.weights_sha256, source.weights_sha256),
        ("configuration", origin.config_sha256, source.config_sha256),
    ):
        if made_for != got:
            raise LensError(
                f"{path} was trained for {origin.model} ({kind} {_short(made_for)}), the model is {source.name} "
                f"({kind} {_short(got)}); train a lens for it with 'exitbench lens', or take --readout logit"
            )


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else sha256[:12]
