"""Exit decoding where people already are: as the decoding method of `model.generate`.

    model.generate(**inputs, custom_generate=exitbench.generate, exit_policy=policy, exit_state="lossless")

The model is proved and tried as on every load, once, the first time it is seen: that takes seconds.

A streamer is given as `exit_streamer`, since `generate` keeps its own `streamer` from custom methods. If the loop ends
early, by an error or an interrupt, the streamer has had every token that was sure by then, and is told that it is over.

Non-goals: sampling, beams, processors of logits: exit decoding is greedy.

Shapes: B rows, P prompt tokens, N new tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria
from transformers.generation.streamers import BaseStreamer
from transformers.generation.utils import GenerateDecoderOnlyOutput

from exitbench.decode.abilities import Abilities
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.run import OnToken
from exitbench.decode.stack import Stack
from exitbench.decode.trial import find_abilities
from exitbench.errors import DecodeError
from exitbench.models.load import ProvedModel, prove
from exitbench.models.strict import quiet_transformers
from exitbench.policies.policy import ExitPolicy
from exitbench.policies.static import FixedDepth

__all__ = ["generate"]

_KNOWN = "_exitbench"
"""Attribute of a model that holds its proof, so that both go together."""
_STOPS = (MaxLengthCriteria, EosTokenCriteria)
"""What the loop sees to itself."""
_UNUSED = ("use_cache", "past_key_values", "cache_params", "attention_mask", "logits_to_keep", "position_ids")
"""What `generate` prepares for its own loops; positions are looked at beforehand."""


def generate(
    model: PreTrainedModel,
    input_ids: torch.Tensor,
    logits_processor: Sequence[Any] = (),
    stopping_criteria: Sequence[Any] = (),
    generation_config: GenerationConfig | None = None,
    *,
    exit_policy: ExitPolicy | None = None,
    exit_state: Any = "deferred",
    exit_options: Mapping[str, Any] | None = None,
    exit_streamer: BaseStreamer | None = None,
    **model_kwargs: Any,
) -> Any:
    """A `custom_generate` method for `model.generate`.

    Args:
        model: a causal language model.
        input_ids: (B, P), padded on the left.
        logits_processor: must be empty.
        stopping_criteria: length and end tokens, no others.
        generation_config: greedy.
        exit_policy: when tokens leave; None: never.
        exit_state: "deferred", "copy" or "lossless".
        exit_options: more of `ExitDecoder`: rows, draft, most_waiting.
        exit_streamer: is given the tokens of a single row as they come.
        **model_kwargs: what `generate` prepared; the attention mask is used.

    Returns:
        (B, P + N) ids, shorter answers padded; in a `GenerateDecoderOnlyOutput` if the config asks for it.

    Raises:
        DecodeError: something that exit decoding cannot do; says what.
    """
    assert generation_config is not None
    options = dict(exit_options or {})
    unknown = sorted(options.keys() - {"rows", "draft", "most_waiting"})
    if unknown:
        raise DecodeError(f"exit_options has {unknown[0]!r}, expected rows, draft or most_waiting")
    if not isinstance(exit_policy, ExitPolicy | None):
        raise DecodeError(
            f"exit_policy is {exit_policy!r}, expected an ExitPolicy; make one with exitbench.api.policy_to_decode"
        )
    _require_plain(input_ids, logits_processor, stopping_criteria, generation_config, exit_streamer, model_kwargs)
    mask = model_kwargs.get("attention_mask")
    keep = torch.ones_like(input_ids) if mask is None else mask
    positions = model_kwargs.get("position_ids")
    if positions is not None and not torch.equal(positions * keep, (keep.cumsum(-1) - 1) * keep):
        raise DecodeError("position_ids are not those that the attention mask implies; leave them out")
    prompts = [row[kept.bool()].tolist() for row, kept in zip(input_ids, keep, strict=True)]
    proved, abilities = _proved(model)
    decoder = ExitDecoder(proved, exit_policy or FixedDepth(), state=exit_state, abilities=abilities, **options)
    ends = generation_config.eos_token_id
    try:
        decoded = decoder.decode(
            prompts,
            max_new_tokens=generation_config.max_length - input_ids.shape[1],
            ends=[] if ends is None else [ends] if isinstance(ends, int) else ends,
            on_token=_handing_to(exit_streamer),
        )
    finally:
        if exit_streamer is not None:
            exit_streamer.end()
    failures = [answer.failure for answer in decoded.answers if answer.failure]
    if failures:
        raise DecodeError(f"{failures[0]}; the tokens before it were given to exit_streamer, if there was one")
    pad = generation_config.pad_token_id or 0
    longest = max(len(answer.ids) for answer in decoded.answers)
    new = [[*answer.ids, *[pad] * (longest - len(answer.ids))] for answer in decoded.answers]
    sequences: Any = torch.cat([input_ids, torch.tensor(new, device=input_ids.device)], dim=1)
    return GenerateDecoderOnlyOutput(sequences=sequences) if generation_config.return_dict_in_generate else sequences


def _proved(model: PreTrainedModel) -> tuple[ProvedModel, Abilities]:
    """The proof of a model and what it can do, made once."""
    if _KNOWN not in vars(model):
        if model.training:
            raise DecodeError("the model is in training mode, expected evaluation; call model.eval() first")
        stated = model.generation_config
        assert stated is not None
        # The proof lets the model write; a checkpoint's penalties and suppressed tokens would change what it says.
        model.generation_config = GenerationConfig(pad_token_id=0)
        try:
            with quiet_transformers():
                proved = prove(type(model).__name__, model)
                vars(model)[_KNOWN] = proved, find_abilities(proved, Stack(proved.adapter))
        finally:
            model.generation_config = stated
    known: tuple[ProvedModel, Abilities] = vars(model)[_KNOWN]
    return known


def _require_plain(
    input_ids: torch.Tensor,
    logits_processor: Sequence[Any],
    stopping_criteria: Sequence[Any],
    config: GenerationConfig,
    streamer: BaseStreamer | None,
    model_kwargs: Mapping[str, Any],
) -> None:
    """Refuse what exit decoding would ignore.

    Raises:
        DecodeError: names the first such thing.
    """
    others = [type(stop).__name__ for stop in stopping_criteria if not isinstance(stop, _STOPS)]
    processors = [type(processor).__name__ for processor in logits_processor]
    unknown = sorted(name for name, value in model_kwargs.items() if name not in _UNUSED and value is not None)
    for problem, found in (
        ("sampling", config.do_sample),
        ("beams", config.num_beams not in (None, 1)),
        ("several answers a prompt", config.num_return_sequences not in (None, 1)),
        (f"logits processors ({', '.join(processors)})", processors),
        (f"stopping criteria ({', '.join(others)})", others),
        (f"model inputs ({', '.join(unknown)})", unknown),
        ("input embeddings without ids", input_ids.shape[1] == 0),
        ("a streamer for several prompts", streamer is not None and len(input_ids) > 1),
    ):
        if found:
            raise DecodeError(f"exit decoding is plain greedy decoding of token ids, got {problem}; leave that out")


def _handing_to(streamer: BaseStreamer | None) -> OnToken:
    def hand(row: int, token: int, depth: int) -> None:
        if streamer is not None:
            streamer.put(torch.tensor([token]))

    return hand
