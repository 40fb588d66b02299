"""Our view of a model: hidden states at every depth, and the readout at any of them.

Hidden states are taken by hooks at the blocks. The readout runs the model's own code after the last block: every
block is replaced for the call by a pass-through, the last one by a stand-in that returns the hidden state to be read.
So final norm, projection, head, scale and soft-cap are the model's, whatever they are. It is the reference for any
faster readout.

`output_hidden_states` is not used: its last entry is normed in most models and not in some.

Shapes: L blocks, T tokens, R rows (tokens read out together), D hidden size, V vocabulary.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from exitbench.models.discover import ModulePaths, discover, hidden_of_input, hidden_of_output

__all__ = ["ModelAdapter"]


class ModelAdapter:
    """A causal language model seen as a stack of blocks with a readout.

    Args:
        model: in eval mode.
        paths: where its parts are; found by watching a forward pass if not given.
    """

    def __init__(self, model: PreTrainedModel, paths: ModulePaths | None = None) -> None:
        self.model = model
        self.paths = paths or discover(model)
        self.blocks = list(model.get_submodule(self.paths.blocks).children())
        accepted = inspect.signature(model.forward).parameters
        self._one_logit_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @property
    def num_blocks(self) -> int:
        """L."""
        return len(self.blocks)

    @property
    def hidden_size(self) -> int:
        """D, the width of the hidden state between blocks."""
        return self.paths.hidden_size

    def capture(self, input_ids: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
        """Run one sequence through the model and keep the hidden states of some of its tokens.

        Args:
            input_ids: (1, T) token ids.
            rows: which of the T positions to keep.

        Returns:
            (L + 1, R, D) hidden states after 0..L blocks, in the model's dtype, on the device of its head.
        """
        kept: list[torch.Tensor] = []

        def keep_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kept.append(hidden_of_input(args, kwargs)[0, rows].clone())

        def keep_output(_: Any, __: Any, output: Any) -> None:
            kept.append(hidden_of_output(output)[0, rows].clone())

        with torch.inference_mode(), ExitStack() as stack:
            first = self.blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True)
            stack.callback(first.remove)
            for block in self.blocks:
                stack.callback(block.register_forward_hook(keep_output).remove)
            logits = self.model(input_ids=input_ids, use_cache=False, **self._one_logit_only).logits
            return torch.stack([hidden.to(logits.device) for hidden in kept])

    def readout(self, hidden_RD: torch.Tensor) -> torch.Tensor:
        """Logits that the model's own code after the last block gives for hidden states of any depth.

        Args:
            hidden_RD: (R, D) hidden states, in the model's dtype.

        Returns:
            (R, V) logits in the model's own output dtype.
        """
        # R sequences of one token: no mask, and no limit on R from the positions that a model knows.
        hidden_R1D = hidden_RD[:, None, :]
        input_ids = torch.zeros(len(hidden_RD), 1, dtype=torch.long, device=hidden_RD.device)
        with torch.inference_mode(), self._blocks_replaced(hidden_R1D):
            logits_R1V: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits_R1V[:, 0]

    @contextmanager
    def _blocks_replaced(self, hidden_R1D: torch.Tensor) -> Iterator[None]:
        """Make every block return its input, and the last one `hidden_R1D`, for the time of the context."""

        def pass_through(*args: Any, **kwargs: Any) -> Any:
            return hidden_of_input(args, kwargs)

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return hidden_R1D

        with ExitStack() as stack:
            for block in self.blocks[:-1]:
                stack.enter_context(_forward_replaced(block, pass_through))
            stack.enter_context(_forward_replaced(self.blocks[-1], stand_in))
            yield


@contextmanager
def _forward_replaced(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give one module another `forward`; its attributes, which the model may ask for, stay."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.__dict__["forward"] = before
