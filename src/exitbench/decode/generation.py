"""transformers' own decoding as engines: plain greedy, and its self-speculation from an early depth.

Shapes: B prompts.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig

from exitbench.decode.engine import Answer, Decoded
from exitbench.errors import DecodeError
from exitbench.models.load import LoadedModel
from exitbench.models.strict import LOAD_ERRORS, one_line, quiet_transformers
from exitbench.trace.generate import end_token_ids, padded_left, up_to_end

__all__ = ["Greedy", "SelfSpeculation"]


class _FirstToken:
    """A streamer that notes when the first token came."""

    def __init__(self) -> None:
        self.at: float | None = None
        self._calls = 0

    def put(self, value: torch.Tensor) -> None:
        self._calls += 1
        if self._calls == 2:  # the prompt comes first
            self.at = time.perf_counter()

    def end(self) -> None:
        pass


class Greedy:
    """`model.generate(do_sample=False)`.

    Args:
        loaded: the model.
        past_ends: go on behind end tokens.
        **more: further settings of the generation.
    """

    name = "transformers"
    baseline = "transformers"

    def __init__(self, loaded: LoadedModel, *, past_ends: bool = False, **more: Any) -> None:
        self._loaded, self._past_ends, self._more = loaded, past_ends, more

    @property
    def setting(self) -> str:
        """Nothing was chosen."""
        return ""

    def decode(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Decoded:
        """Greedy answers, in one batch padded on the left."""
        model: Any = self._loaded.model
        ids, mask = (values.to(model.device) for values in padded_left(prompts, 0))
        ends = [] if self._past_ends else end_token_ids(model)
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=0,
            # An id that no token has, since None would be filled in from the model's own.
            eos_token_id=ends or [-1],
            **self._more,
        )
        first = _FirstToken()
        streamer = first if len(prompts) == 1 else None
        start = time.perf_counter()
        with torch.inference_mode(), quiet_transformers():
            output = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, streamer=streamer)
        new = output[:, ids.shape[1] :].tolist()
        total = time.perf_counter() - start
        answers = tuple(Answer(ids=tuple(up_to_end(row, ends))) for row in new)
        prefill = None if first.at is None else first.at - start
        return Decoded(answers=answers, prefill_s=prefill, total_s=total, counts={})


class SelfSpeculation(Greedy):
    """`assistant_early_exit`: drafts by the first blocks and the model's own head, checked by the whole.

    Args:
        loaded: the model.
        depth: blocks that draft.
        past_ends: go on behind end tokens.

    Raises:
        DecodeError: no such depth.
    """

    name = "transformers-early-exit"

    def __init__(self, loaded: LoadedModel, *, depth: int, past_ends: bool = False) -> None:
        if not 1 <= depth < loaded.adapter.num_blocks:
            raise DecodeError(f"depth is {depth}, expected 1 to {loaded.adapter.num_blocks - 1}")
        super().__init__(loaded, past_ends=past_ends, assistant_early_exit=depth)
        self._depth = depth

    @property
    def setting(self) -> str:
        """The depth."""
        return f"depth {self._depth}"

    def decode(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Decoded:
        """Greedy answers, one prompt after the other.

        Raises:
            DecodeError: transformers cannot do it with this model; says why.
        """
        parts = []
        for prompt in prompts:
            try:
                with _config_put_back(self._loaded.model):
                    parts.append(super().decode([prompt], max_new_tokens=max_new_tokens))
            except LOAD_ERRORS as error:
                raise DecodeError(
                    f"assistant_early_exit does not run with {self._loaded.name}, whose code may not take its number "
                    f"of blocks from the config: {one_line(error)}"
                ) from error
        prefills = [part.prefill_s for part in parts]
        return Decoded(
            answers=tuple(part.answers[0] for part in parts),
            prefill_s=None if None in prefills else sum(prefill or 0.0 for prefill in prefills),
            total_s=sum(part.total_s for part in parts),
            counts={},
        )


@contextmanager
def _config_put_back(model: Any) -> Iterator[None]:
    """Drafting sets the number of blocks in the model's config, and an error leaves it there."""
    config = getattr(model, model.base_model_prefix).config
    num_blocks = config.num_hidden_layers
    try:
        yield
    finally:
        config.num_hidden_layers = num_blocks
