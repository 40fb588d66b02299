"""The economize library (extra `economize`) as an engine: its plain greedy loop, and four of its techniques.

- "calm": tokens leave when the gap between their two likeliest tokens is above a threshold; the state of skipped blocks
  is computed from the hidden state at the exit.
- "skipdecode": the number of blocks falls with the position, the lowest are skipped.
- "early-exit": drafts by the first blocks and the model's own head, checked by the whole model.
- "layer-skip": drafts without some blocks, spread evenly, checked by the whole model.

The baseline is economize's own loop without a technique ("greedy"). The first two change answers, the drafts do not.

Design choices: a model type that economize has no adapter for is refused, though the library would try; nothing is
trained, searched or calibrated here, so thresholds and depths are the caller's, and a searched set of blocks to skip
may do better than an even one.

Non-goals: its other techniques, and what has to be trained.
"""

import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, get_args

import torch

from exitbench.decode.engine import Answer, Decoded
from exitbench.decode.timing import synchronise
from exitbench.errors import DecodeError
from exitbench.models.load import ProvedModel
from exitbench.models.strict import one_line
from exitbench.trace.generate import end_token_ids

__all__ = ["Economize", "Technique"]

Technique = Literal["greedy", "calm", "skipdecode", "early-exit", "layer-skip"]

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "greedy": (),
    "calm": ("threshold",),
    "skipdecode": ("min_blocks", "decay"),
    "early-exit": ("depth", "draft"),
    "layer-skip": ("skipped", "draft"),
}
"""What each technique needs to be told."""


class Economize:
    """economize on a model that is already loaded; an `Engine`.

    Args:
        loaded: the model; its weights are shared and not changed.
        technique: one of those above.
        past_ends: go on behind end tokens.
        **options: all that the technique needs. calm: threshold in [0, 1]. skipdecode: min_blocks, which run from
            position `decay` of the answer on. early-exit: depth, draft (most tokens drafted before a check).
            layer-skip: skipped (number of blocks), draft.

    Raises:
        DecodeError: economize is not installed, does not know the model type, or refuses an option.
    """

    name = "economize"
    baseline = "economize"

    def __init__(
        self, loaded: ProvedModel, *, technique: Technique = "greedy", past_ends: bool = False, **options: Any
    ) -> None:
        if technique not in _OPTIONS:
            raise DecodeError(f"technique is {technique!r}, expected one of {', '.join(get_args(Technique))}")
        if sorted(options) != sorted(_OPTIONS[technique]):
            expected, given = (", ".join(names) or "nothing" for names in (_OPTIONS[technique], options))
            raise DecodeError(f"technique {technique!r} of economize needs {expected}; got {given}")
        self._economize = _imported()
        model_type = loaded.model.config.get_text_config(decoder=True).model_type
        if model_type not in import_module("economize.arch").ARCHITECTURES:
            raise DecodeError(f"economize has no adapter for the model type {model_type!r} of {loaded.name}")
        self._technique, self._options, self._past_ends = technique, options, past_ends
        self._loaded = loaded
        try:
            configs = _configs(technique, options)
            decoding = self._economize.DecodeConfig(cycle_length=1 + options.get("draft", 0))
            self._model = self._economize.apply(loaded.model, *configs, decoding=decoding)
        except self._economize.EconomizeError as error:
            raise DecodeError(f"economize refuses {self.setting} on {loaded.name}: {one_line(error)}") from error

    @property
    def setting(self) -> str:
        """The technique and its options."""
        return ", ".join([self._technique, *(f"{name} {value}" for name, value in self._options.items())])

    def decode(self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int) -> Decoded:
        """Greedy answers, all prompts in one batch of economize's."""
        device = self._loaded.model.device
        ends = [] if self._past_ends else end_token_ids(self._loaded.model)
        start = time.perf_counter()
        ids = [torch.tensor(list(prompt), device=device) for prompt in prompts]
        selector, chosen_at = self._watched_selector(device)
        try:
            with torch.inference_mode():
                results = self._model.decode_batch(ids, max_new_tokens, selector=selector, stop=ends)
        except self._economize.EconomizeError as error:
            raise DecodeError(f"economize cannot decode {self._loaded.name}: {one_line(error)}") from error
        answers = tuple(Answer(ids=tuple(result.tokens.tolist())) for result in results)
        total = time.perf_counter() - start
        counts = {"drafts": 0, "accepted": 0}
        for drafted, accepted in (cycle for result in results for cycle in result.acceptance):
            counts["drafts"] += drafted
            counts["accepted"] += accepted
        if self._technique in ("calm", "skipdecode"):
            (technique,) = self._model.techniques.values()
            counts["block_tokens"] = technique.depth_stats()["executed_layer_tokens"]
            counts["skipped_blocks"] = technique.depth_stats()["skipped_layer_tokens"]
        return Decoded(
            answers=answers, prefill_s=chosen_at[0] - start if chosen_at else None, total_s=total, counts=counts
        )

    def _watched_selector(self, device: torch.device) -> tuple[Any, list[float]]:
        """Greedy choice, and a list to which the time of the first one will be added."""
        selector = self._economize.GreedySelector()
        choose = selector.select_many
        chosen_at: list[float] = []

        def watched(logits: torch.Tensor) -> torch.Tensor:
            chosen: torch.Tensor = choose(logits)
            if not chosen_at:
                synchronise(device)
                chosen_at.append(time.perf_counter())
            return chosen

        selector.select_many = watched
        return selector, chosen_at


def _imported() -> Any:
    try:
        return import_module("economize")
    except ModuleNotFoundError as error:
        if error.name != "economize":
            raise
        raise DecodeError(
            "the engine 'economize' needs the economize library; run: pip install 'exitbench[economize]'"
        ) from None


def _configs(technique: str, options: Mapping[str, Any]) -> list[Any]:
    """What economize calls a technique with its options; nothing for its plain loop."""
    techniques = import_module("economize.techniques")
    if technique == "calm":
        return [techniques.dynamic_depth.CalmConfig(threshold=options["threshold"])]
    if technique == "skipdecode":
        return [techniques.dynamic_depth.SkipDecodeConfig(min_layers=options["min_blocks"], decay=options["decay"])]
    if technique == "early-exit":
        return [techniques.early_exit.EarlyExitConfig(exit_layer=options["depth"], head="shared")]
    if technique == "layer-skip":
        return [techniques.layer_skip.LayerSkipConfig(num_skip=options["skipped"], search="uniform")]
    return []
