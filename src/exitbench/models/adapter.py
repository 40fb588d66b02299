"""Our view of a model: hidden states at every depth, and the readout at any of them.

Hidden states are taken by hooks at the blocks. The readout runs the model's own code after the last block: every
block is replaced for the call by a pass-through, the last one by a stand-in that returns the hidden state to be read.
So final norm, projection, head, scale and soft-cap are the model's, whatever they are. It is the reference for any
faster readout.

`output_hidden_states` is not used: its last entry is normed in most models and not in some.

Shapes: L blocks, T tokens, R rows (tokens read out together), D hidden size, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from transformers import GenerationConfig, PreTrainedModel

from exitbench.models.discover import ModulePaths, discover

__all__ = ["ModelAdapter", "Pass", "forward_replaced"]


@dataclass(frozen=True)
class Pass:
    """What one pass over a sequence showed."""

    logits: torch.Tensor
    """(T, V)"""
    hidden: torch.Tensor
    """(T, D), after the last block"""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]]
    """The arguments of each block."""


class ModelAdapter:
    """A causal language model seen as a stack of blocks with a readout.

    Args:
        model: in eval mode.
        paths: where its parts are; found by watching a forward pass if not given.
    """

    def __init__(self, model: PreTrainedModel, paths: ModulePaths | None = None) -> None:
        self.model = model
        self.paths = paths or discover(model)
        self.blocks = [model.get_submodule(path) for path in self.paths.blocks]
        self._head = model.get_submodule(self.paths.head)

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
            (L + 1, R, D) hidden states after 0..L blocks, in the model's dtype, on the device of the last one.
        """
        kept: list[torch.Tensor] = []

        def keep(hidden: torch.Tensor) -> None:
            kept.append(self.paths.layout.to_rows(hidden)[0, rows].clone())

        def entering(depth: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if depth == 0:
                keep(self.paths.ports[0].taken(args, kwargs))

        def leaving(depth: int, output: Any) -> None:
            keep(self.paths.ports[depth].left(output))

        # Logits are not needed, and of one token alone they would cost a copy of the head's weights.
        no_logits = forward_replaced(self._head, lambda features: features[..., :1])
        with torch.inference_mode(), self.watched(entering, leaving), no_logits:
            self.model(input_ids=input_ids, use_cache=False)
            return torch.stack([hidden.to(kept[-1].device) for hidden in kept])

    def record(self, input_ids: torch.Tensor) -> Pass:
        """Run one sequence through the model and keep what every block was called with.

        Args:
            input_ids: (1, T) token ids.
        """
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        left: list[torch.Tensor] = []
        ports, layout = self.paths.ports, self.paths.layout

        def entering(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # A copy, for a block may write to its input.
            calls.append(ports[index].given(args, kwargs, ports[index].taken(args, kwargs).clone()))

        def leaving(index: int, output: Any) -> None:
            left[:] = [layout.to_rows(ports[index].left(output))[0].clone()]

        with torch.no_grad(), self.watched(entering, leaving):
            logits = self.model(input_ids=input_ids, use_cache=False).logits
        return Pass(logits=logits.reshape(input_ids.shape[1], -1), hidden=left[0], calls=calls)

    def answer(self, prompt: torch.Tensor, *, num_tokens: int, padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the model write a greedy answer, one token at a time with its cache, past any end token.

        Args:
            prompt: (1, P) token ids.
            num_tokens: N, length of the answer; the last token is not run through the model again.
            padding: masked positions put before the prompt, as in a batch with a longer one.

        Returns:
            (1, P + N - 1) ids of the prompt and what follows it, and the (N, V) logits by which the answer was chosen.
        """
        generate: Any = self.model.generate
        plain: dict[str, Any] = {"do_sample": False, "use_cache": True, "pad_token_id": 0}
        shown: dict[str, Any] = {"output_logits": True, "return_dict_in_generate": True}
        with torch.no_grad():
            answer = generate(
                input_ids=functional.pad(prompt, (padding, 0)),
                attention_mask=functional.pad(torch.ones_like(prompt), (padding, 0)),
                generation_config=GenerationConfig(
                    max_new_tokens=num_tokens, min_new_tokens=num_tokens, **plain, **shown
                ),
            )
        return answer.sequences[:, padding:-1], torch.cat(list(answer.logits))

    @contextmanager
    def watched(
        self,
        entering: Callable[[int, tuple[Any, ...], dict[str, Any]], None],
        leaving: Callable[[int, Any], Any],
    ) -> Iterator[None]:
        """Call `entering(i, args, kwargs)` before block i (from 0) and `leaving(i, output)` after it in every pass.

        What `leaving` returns, if anything, takes the place of the block's output.
        """
        finished = 0

        def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            entering(finished % self.num_blocks, args, kwargs)

        def after(_: Any, __: Any, output: Any) -> Any:
            nonlocal finished
            finished += 1
            return leaving((finished - 1) % self.num_blocks, output)

        with ExitStack() as stack:
            for block in dict.fromkeys(self.blocks):
                stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(block.register_forward_hook(after).remove)
            yield

    def readout(
        self,
        hidden_RD: torch.Tensor,
        *,
        head: Callable[[torch.Tensor], torch.Tensor] | None = None,
        gradients: bool = False,
    ) -> torch.Tensor:
        """Logits that the model's own code after the last block gives for hidden states of any depth.

        Args:
            hidden_RD: (R, D) hidden states, in the model's dtype.
            head: called in place of the model's head; it may return fewer numbers than the vocabulary has tokens.
            gradients: let them flow back to the hidden states, for whoever learns by this readout.

        Returns:
            (R, V) logits in the model's own output dtype.
        """
        # R sequences of one token: no mask, and no limit on R from the positions that a model knows.
        hidden = self.paths.layout.from_rows(hidden_RD[:, None, :])
        input_ids = torch.zeros(len(hidden_RD), 1, dtype=torch.long, device=hidden_RD.device)
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(not gradients))
            stack.enter_context(self._blocks_replaced(hidden))
            if head is not None:
                stack.enter_context(forward_replaced(self._head, head))
            logits_R1V: torch.Tensor = self.model(input_ids=input_ids, use_cache=False).logits
        return logits_R1V.reshape(len(hidden_RD), -1)

    @contextmanager
    def _blocks_replaced(self, hidden: torch.Tensor) -> Iterator[None]:
        """Make every block return its input, and the last one `hidden`, for the time of the context."""
        ran = 0

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            nonlocal ran
            port = self.paths.ports[ran]
            ran += 1
            return port.imitated(hidden if ran == self.num_blocks else port.taken(args, kwargs))

        with ExitStack() as stack:
            for block in dict.fromkeys(self.blocks):
                stack.enter_context(forward_replaced(block, stand_in))
            yield


@contextmanager
def forward_replaced(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
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
