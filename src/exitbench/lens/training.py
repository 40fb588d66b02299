"""Training of a tuned lens: every depth at once, from one pass of the frozen model over a few documents a step.

What is minimised is KL(final distribution || readout of the translated state), over the whole vocabulary. Its gradient
with respect to the logits is q - p, the two distributions' difference, which is all of the vocabulary's size that is
ever held beside the logits: some rows, one depth. From there it goes back through the model's own code, norm and head,
whose weights stay as they are. Depths share nothing but the final distribution, so that theirs is one sum after the
other and the order of work is free.

Adam, with a rate that falls linearly to 0, on A and b in units of each hidden dimension's own size (root mean square
over the first step, by depth): dimensions of hidden states differ by factors of hundreds, and a step that is small for
one would otherwise drown another. As a step of Adam does not grow with the gradient, nothing is clipped.

Every few steps all of the training's state is written beside the output, so that an interrupted run goes on there, and
ends with the same bits as one that was not.

Shapes: L blocks, R rows (tokens) of a step, T of them at once, D hidden size, V vocabulary.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from exitbench.errors import LensError
from exitbench.lens.plan import Plan
from exitbench.lens.tensors import read_tensors, write_tensors
from exitbench.lens.translators import Origin, Translators, translate
from exitbench.models.load import LoadedModel
from exitbench.progress import SILENT, Progressor

__all__ = ["partial_path", "train"]

_STEPS_BETWEEN_SAVES = 16
_MEMORY = 256 * 2**20
"""Bytes of numbers of the vocabulary's size to hold at once, about."""
_BYTES_OF_LOGIT = 16
"""Held for each logit: itself, its gradient, the final and the other probability."""
_MOST_ROWS = 256
"""Of one product; larger ones are no faster."""
_ROWS_IN_CACHE = 8
_BETAS = (0.9, 0.98)
_LEAST_SIZE = 1e-3
"""Of a dimension, as a share of the root mean square over all."""
_TINY = torch.finfo(torch.float32).tiny


def partial_path(out: Path) -> Path:
    """Where the state of an unfinished training lies: FILE.partial.safetensors."""
    return out.with_name(f"{out.name.removesuffix('.safetensors')}.partial.safetensors")


def train(
    loaded: LoadedModel,
    documents: Sequence[Sequence[int]],
    plan: Plan,
    origin: Origin,
    out: Path,
    *,
    progress: Progressor = SILENT,
) -> None:
    """Train a lens into the file `out`, or go on where a run of the same origin was interrupted.

    Args:
        loaded: a validated model.
        documents: token ids of each document.
        plan: which of them each step sees.
        origin: what is about to be trained.
        out: the file to write; the state of an unfinished run lies beside it.
        progress: where to show a bar.

    Raises:
        LensError: an unfinished run of another origin lies there, or training left the finite numbers.
    """
    partial, record = partial_path(out), origin.model_dump(mode="json")
    training = _Training(loaded, origin)
    if partial.exists():
        tensors, found = read_tensors(partial)
        _refuse_other_origin(partial, found, record)
        training.restore(tensors)
    with progress.bar(f"Training a lens for {origin.model}", len(plan.steps)) as advance:
        advance(training.num_steps)
        for step in plan.steps[training.num_steps :]:
            training.step([documents[index] for index in step])
            if training.num_steps % _STEPS_BETWEEN_SAVES == 0:
                write_tensors(partial, training.state(), record)
            advance(1)
    weights, biases = training.folded()
    Translators.of(weights, biases, origin).save(out)
    partial.unlink(missing_ok=True)


def _refuse_other_origin(partial: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different:
        key = different[0]
        raise LensError(
            f"{partial} is of another training: {key} is {found.get(key)} there, {wanted[key]} now; "
            "finish that one with its own command, delete it, or choose another --out"
        )


class _Training:
    """Maps in units of each dimension's size, their optimiser, and how many steps they have made."""

    def __init__(self, loaded: LoadedModel, origin: Origin) -> None:
        self._adapter = loaded.adapter
        self._origin = origin
        self._device = loaded.model.device
        blocks, width = origin.num_blocks, origin.hidden_size
        device = loaded.readout.probe_KTD.device  # of hidden states, which may not be where token ids go
        self._weights = torch.zeros(blocks, width, width, device=device, requires_grad=True)
        self._biases = torch.zeros(blocks, width, device=device, requires_grad=True)
        self._sizes = torch.zeros(blocks, width, device=device)
        """(L, D) root mean square of each dimension; 0 before the first step."""
        self._optimiser = torch.optim.Adam(self._parameters.values(), lr=origin.learning_rate, betas=_BETAS)
        self._rows = max(1, min(_MOST_ROWS, _MEMORY // (_BYTES_OF_LOGIT * loaded.readout.vocab_size)))
        self.num_steps = 0

    @property
    def _parameters(self) -> dict[str, torch.Tensor]:
        return {"weights": self._weights, "biases": self._biases}

    def state(self) -> dict[str, torch.Tensor]:
        """All that a further step depends on, by name."""
        moments = {
            f"{name}.{key}": value
            for name, parameter in self._parameters.items()
            for key, value in self._optimiser.state[parameter].items()
        }
        return {**self._parameters, **moments, "sizes": self._sizes, "num_steps": torch.tensor(self.num_steps)}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go on from a `state`."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(tensors[name])
                moments = {key: tensors[f"{name}.{key}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")}
                self._optimiser.state[parameter] = {"step": tensors[f"{name}.step"], **moments}
            self._sizes.copy_(tensors["sizes"])
        self.num_steps = int(tensors["num_steps"])

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(L, D, D) and (L, D): the maps in units of the hidden states."""
        with torch.no_grad():
            return self._weights * self._ratios(), self._biases * self._sizes

    def _ratios(self) -> torch.Tensor:
        """(L, D, D) unit of the dimension that is written to over that of the one that is read."""
        return self._sizes[:, :, None] / self._sizes[:, None, :]

    def step(self, documents: Sequence[Sequence[int]]) -> None:
        """Take one step of every depth's map."""
        # A clone, as what was made in inference mode takes no part in gradients.
        hidden_LRD = torch.cat([self._adapter.capture(self._ids(ids)) for ids in documents], dim=1).clone()
        if self.num_steps == 0:
            self._sizes.copy_(_sizes(hidden_LRD[:-1]))
        weights, biases = self.folded()
        gradients = torch.zeros_like(weights), torch.zeros_like(biases)
        for start in range(0, hidden_LRD.shape[1], self._rows):
            self._add_gradients(hidden_LRD[:, start : start + self._rows], (weights, biases), gradients)
        self._weights.grad, self._biases.grad = gradients[0].mul_(self._ratios()), gradients[1].mul_(self._sizes)
        for group in self._optimiser.param_groups:
            group["lr"] = self._origin.learning_rate * (1 - self.num_steps / self._origin.steps)
        self._optimiser.step()
        self.num_steps += 1

    def _ids(self, document: Sequence[int]) -> torch.Tensor:
        return torch.tensor([document], device=self._device)

    def _add_gradients(
        self, hidden_LTD: torch.Tensor, maps: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor]
    ) -> None:
        """Add up each depth's gradient, summed over some rows, of its A and of its b."""
        final_TV = torch.softmax(self._readout(hidden_LTD[-1]), -1, dtype=torch.float32)
        for depth, hidden_TD in enumerate(hidden_LTD[:-1]):
            own = [of[depth].requires_grad_() for of in maps]
            logits_TV = self._readout(translate(hidden_TD, *own))
            pull_TV = _gradient(logits_TV.detach(), final_TV)
            for of, more in zip(gradients, torch.autograd.grad(logits_TV, own, pull_TV), strict=True):
                of[depth] += more

    def _readout(self, hidden_TD: torch.Tensor) -> torch.Tensor:
        """(T, V) logits by the model's own code, through which gradients flow."""
        return self._adapter.readout(hidden_TD, gradients=True)


def _gradient(logits_TV: torch.Tensor, final_TV: torch.Tensor) -> torch.Tensor:
    """(T, V) gradient of each row's KL(p || q) with respect to its logits: q - p.

    A few rows at a time stay in the processor's cache.
    """
    gradient_TV = torch.empty_like(logits_TV)
    for start in range(0, len(logits_TV), _ROWS_IN_CACHE):
        rows = slice(start, start + _ROWS_IN_CACHE)
        gradient_TV[rows] = torch.softmax(logits_TV[rows], -1, dtype=torch.float32).sub_(final_TV[rows])
    return gradient_TV


def _sizes(hidden_LRD: torch.Tensor) -> torch.Tensor:
    """(L, D) root mean square of each dimension, none far below that of all: one that is always 0 has no unit."""
    squares_LD = hidden_LRD.float().square().mean(dim=1)
    return squares_LD.maximum(_LEAST_SIZE**2 * squares_LD.mean(-1, keepdim=True)).sqrt().clamp_min(_TINY)
