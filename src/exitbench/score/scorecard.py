"""The score card: every figure of one trace, as a frozen, typed, JSON-able record.

Design choices: flat names, so that a card is a row; a figure that does not exist is None and `reasons` says
why, which in JSON becomes `"<name>": null, "<name>_reason": "..."`. Whatever identifies the measurement is
copied from the trace's manifest, so a card can be read without its trace. Non-goals: computing anything (see
`assemble`) and layout (see the report package).
"""

from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict

from exitbench.errors import ReportError, first_problem
from exitbench.models.catalogue import ModelFacts
from exitbench.models.shape import ModelShape
from exitbench.replay.frontier import Frontier
from exitbench.stats.bootstrap import LEVEL
from exitbench.stats.figure import Curve, Figure
from exitbench.stats.reasoned import Reasoned
from exitbench.trace.manifest import ModelIdentity, Settings, WorkloadIdentity
from exitbench.trace.precision import Precision

__all__ = ["CARD_VERSION", "NOT_RECORDED", "CategoryScore", "EasScore", "ScoreCard"]

CARD_VERSION = 4
NOT_RECORDED = "not recorded: traced with --fast"
"""The reason of every figure that needs signals, on the card of a trace that has none."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class EasScore(_Frozen):
    """The Early-exit Adaptability Score under one reading of its free choices."""

    similarity: str
    """Signal taken as similarity: "logit_cosine", "logit_cosine_centred" or "hidden_cosine"."""
    alpha: float
    """Exponent of the similarity at which `eas` is taken."""
    eas: Figure | None
    by_alpha: Curve
    """EAS over the grid of alpha: how much the score depends on that free choice."""


class CategoryScore(_Frozen):
    """Suitability of one category of the workload.

    Figures are None where no token of it was traced, and `ees_first_match` where no signals were recorded.
    """

    n_tokens: int
    n_prompts: int
    n_failed: int
    ees: Figure | None
    ees_blocks: Figure | None
    ees_first_match: Figure | None


class ScoreCard(Reasoned):
    """All figures of one trace. Shares and savings lie in 0..1; entropy and loss are in nats.

    Of a trace made with --fast, only EES (as a whole, by blocks, by character, by category, on part of the tokens), the
    shares of tokens, and the decided and the batch curve are not None.
    """

    schema_version: int = CARD_VERSION
    verdict: str
    """The result in one plain sentence."""

    model: ModelIdentity
    shape: ModelShape
    facts: ModelFacts = ModelFacts()
    workload: WorkloadIdentity
    settings: Settings
    libraries: dict[str, str]
    environment: dict[str, Any]
    command: str
    created: str
    """When the trace was made, ISO 8601, UTC."""
    target: str
    """What loss and accuracy are measured against: "own answer" or "text"."""
    seed: int
    draws: int
    """Bootstrap resamples behind every interval."""
    precision: Precision | None = None
    """What came of the precision that was asked for; None if none was."""

    n_tokens: int
    n_prompts: int
    """Prompts with at least one token."""
    n_failed: int

    ees: Figure
    """Mean share of the blocks' work that lies behind the decision depth."""
    ees_blocks: Figure
    """EES with every block counted alike."""
    ees_null: Figure | None
    """Share that chance agreement alone would give."""
    ees_star: Figure | None
    """EES corrected for chance: (ees - ees_null) / (1 - ees_null)."""

    aes_1pct: Figure | None
    """Savings of the plain confidence threshold held within 1 % disagreement, cross-fitted."""
    aes_1pct_disagreement: Figure | None
    """Disagreement really met on the held-out prompts."""
    aes_1pct_oracle: Figure | None
    """Savings of an oracle allowed the same share of disagreements."""
    aes_1pct_detectability: Figure | None
    """aes_1pct / aes_1pct_oracle."""
    aes_1pct_thresholds: list[float | None] | None
    """Threshold chosen for each held-out fold; None = no threshold qualified, so never exit."""
    aes_5pct: Figure | None
    aes_5pct_disagreement: Figure | None
    aes_5pct_oracle: Figure | None
    aes_5pct_detectability: Figure | None
    aes_5pct_thresholds: list[float | None] | None

    nes_flops_copy_1pct: Figure | None
    """Share of a token's FLOPs that the policy of aes_1pct saves, net of its probes and of the state of skipped blocks,
    copied from the exit; batch 1, context 512. Negative: it costs more than it saves."""
    nes_flops_copy_5pct: Figure | None
    nes_bytes_deferred_1pct: Figure | None
    """The same in bytes read and written, where skipped blocks run later, together with the next token."""
    nes_bytes_deferred_5pct: Figure | None
    lossless_projection: Figure | None
    """Cost in bytes of plain decoding over that of self-speculation with the best drafts, cross-fitted."""
    lossless_drafts: list[tuple[int, int] | None] | None
    """(depth, length) of the drafts chosen for each held-out fold; None = no draft pays."""
    aes_ltt_1pct: Figure | None
    """Savings of the plain threshold with a certificate (Learn-then-Test, delta 0.1) of at most 1 % disagreement."""
    aes_ltt_5pct: Figure | None
    max_skip: Figure | None

    ees_first_match: Figure | None
    """Savings when leaving at the first depth that agrees, whatever later ones say: an upper bound."""
    ees_tv_10: Figure | None
    """EES with "total variation to the final distribution below 0.1" in place of "top-1 agrees"."""
    ees_tv_30: Figure | None
    ees_correct: Figure | None
    """EES over tokens that the full model gets right; on given text only."""
    ees_per_character: Figure | None
    """EES with every token counted by the characters of the text it stands for; on given text only."""
    bits_per_character: Figure | None
    """Loss of the full model in bits a character of the text, which does not depend on the vocabulary; on given text
    only."""

    generated_mismatch: Figure | None
    """Share of tokens whose top-1 in the parallel pass differs from the generated token."""
    loop_share: Figure | None
    """Share of tokens in an 8-gram that occurred earlier in the same answer."""
    ees_without_loops: Figure | None
    """EES over the tokens outside such loops."""

    eas: list[EasScore] | None

    decided: Curve
    """F(d): share of tokens decided at depth d or earlier."""
    agreement: Curve | None
    """Share of tokens whose top-1 at depth d is the final one."""
    entropy: Curve | None
    loss: Curve | None
    """Mean negative log-probability of the target by depth."""
    accuracy: Curve | None
    """Share of tokens whose top-1 at depth d is the target."""
    top1_churn: Curve | None
    """Share of tokens whose top-1 at depth d is another than at d - 1, from depth 1 on."""
    batch: Curve
    """EES of rows in lockstep, by batch size."""
    frontier: Frontier | None
    categories: dict[str, CategoryScore]

    @property
    def level(self) -> float:
        """Confidence level of every interval of the card."""
        return LEVEL if self.precision is None else self.precision.level

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON values, with `<name>_reason` beside every null."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: Any) -> "ScoreCard":
        """The card written by `to_json`.

        Raises:
            ReportError: another schema version, or not a score card.
        """
        if not isinstance(data, dict):
            raise ReportError(f"score card is a JSON {type(data).__name__}, expected the object of a score.json")
        if data.get("schema_version") != CARD_VERSION:
            raise ReportError(
                f"score card has schema version {data.get('schema_version')!r}, expected {CARD_VERSION}; "
                "run `exitbench score` on its trace again"
            )
        try:
            return cls.model_validate(data)
        except pydantic.ValidationError as error:
            problem = first_problem(error, "card")
            raise ReportError(f"not a score card: {problem}; run `exitbench score` on its trace again") from error
