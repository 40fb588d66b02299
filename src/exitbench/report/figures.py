"""Which figures of a card are shown, in which order, under which kind of saving, and in which words.

The page, the Markdown card and the terminal card are three layouts of the same lines, so that a name, a
meaning or a "not computed" is written once. Savings of different kinds never share a table: `Kind` keeps
them apart.
"""

from dataclasses import dataclass
from enum import Enum

from exitbench.score.scorecard import NOT_RECORDED, EasScore, ScoreCard
from exitbench.stats.figure import Figure

__all__ = [
    "Kind",
    "Line",
    "headline",
    "interval_text",
    "level_text",
    "percent",
    "second_screen",
    "subject",
    "value_text",
]

NOT_COMPUTED = "not computed"


class Kind(Enum):
    """What a figure measures: the four kinds of saving, then what is no saving at all."""

    BLOCKS = "share of the blocks' work skipped"
    NET = "FLOPs or bytes saved, net of probes and state completion"
    PROJECTED = "projected speed"
    MEASURED = "measured time"
    TOKENS = "share of tokens"
    RATIO = "ratio of two savings of the same kind"
    LOSS = "loss of the full model"
    PAPER = "the paper's own score, as far as known"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure as it is shown."""

    name: str
    kind: Kind
    meaning: str
    """What the number says, for somebody who has never heard of it."""
    figure: Figure | None
    reason: str = ""
    """Why `figure` is None."""
    asides: tuple["Line", ...] = ()
    """Figures that must be read beside this one, e.g. the disagreement really met."""

    @property
    def recorded(self) -> bool:
        """False where the trace lacks what the figure is made from: no layout shows such a line."""
        return self.reason != NOT_RECORDED


def value_text(figure: Figure | None) -> str:
    """The value with three digits; "not computed" for a null, "n/a" where no value exists."""
    if figure is None:
        return NOT_COMPUTED
    return "n/a" if figure.value is None else f"{figure.value:.3f}"


def interval_text(figure: Figure | None) -> str:
    """The interval, or why there is none."""
    if figure is None or figure.value is None:
        return "n/a"
    if figure.low is None or figure.high is None:
        return f"none with {figure.n_prompts} prompts"
    return f"[{figure.low:.3f}, {figure.high:.3f}]"


def level_text(card: ScoreCard) -> str:
    """The confidence level of every interval of the card, e.g. "95 %"."""
    return f"{100 * card.level:g} %"


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage, e.g. "12.4 %"."""
    return f"{100 * share:.{digits}f} %"


def subject(card: ScoreCard) -> str:
    """What was measured, on how much, in words."""
    on_text = card.settings.on == "text"
    tokens = "tokens of given text" if on_text else "tokens of the model's own greedy answers"
    sources = "documents" if on_text else "prompts"
    return (
        f"{card.model.name} on {card.workload.name} (version {card.workload.version}): "
        f"{card.n_tokens:,} {tokens}, {card.n_prompts:,} {sources}"
    )


def headline(card: ScoreCard) -> tuple[Line, ...]:
    """The headline numbers, those not computed included."""
    return tuple(line for line in _headlines(card) if line.recorded)


def _headlines(card: ScoreCard) -> tuple[Line, ...]:
    return (
        _line(
            card,
            "ees",
            Kind.BLOCKS,
            "EES",
            "What a perfect, free detector of settled predictions would skip; no token changes.",
        ),
        _line(card, "ees_star", Kind.BLOCKS, "EES*", "EES corrected for agreement by chance; 0 is chance level."),
        _attainable(card, 1),
        _attainable(card, 5),
        *(
            _line(
                card,
                f"nes_{field}_{eps}pct",
                Kind.NET,
                f"NES({eps} %), {unit}",
                f"AES({eps} %) net of its probes and of {state}; batch 1, context 512. Negative: a loss.",
            )
            for field, unit, state in _NET
            for eps in (1, 5)
        ),
        _line(
            card,
            "lossless_projection",
            Kind.PROJECTED,
            "Lossless projection",
            "Speedup, in bytes moved, of self-speculation that drafts at a depth and verifies with the rest.",
        ),
    )


def second_screen(card: ScoreCard) -> tuple[Line, ...]:
    """Every other figure of the card."""
    lines = (
        *(_line(card, field, Kind.BLOCKS, name, meaning) for field, name, meaning in _MORE_SAVINGS),
        *(_line(card, field, Kind.TOKENS, name, meaning) for field, name, meaning in _MORE_SHARES),
        _line(
            card,
            "bits_per_character",
            Kind.LOSS,
            "Bits per character",
            "Surprise of the full model at the text, whatever its vocabulary: lower is better.",
        ),
        *(_eas_line(score) for score in card.eas or ()),
    )
    return tuple(line for line in lines if line.recorded)


def _attainable(card: ScoreCard, eps_percent: int) -> Line:
    eps, field = f"{eps_percent} %", f"aes_{eps_percent}pct"
    return _line(
        card,
        field,
        Kind.BLOCKS,
        f"AES({eps})",
        f"What a plain confidence threshold skips on unseen prompts, held to {eps} changed tokens.",
        asides=(
            _line(
                card,
                f"{field}_disagreement",
                Kind.TOKENS,
                "disagreement really met",
                "Share of tokens that changed on unseen prompts.",
            ),
            _line(card, f"{field}_detectability", Kind.RATIO, "detectability", f"AES({eps}) / Oracle({eps})."),
        ),
    )


def _eas_line(score: EasScore) -> Line:
    meaning = "Similarity to the final layer, weighted towards early depths."
    values = [value for value in score.by_alpha.value if value is not None]
    if values:
        alphas = score.by_alpha.at
        meaning += f" {min(values):.3f} to {max(values):.3f} over alpha {min(alphas):g} to {max(alphas):g}."
    return Line(
        name=f"EAS ({score.similarity.replace('_', ' ')}, alpha {score.alpha:g})",
        kind=Kind.PAPER,
        meaning=meaning,
        figure=score.eas,
        reason="" if score.eas is not None else "the similarity is undefined in this trace",
    )


def _line(card: ScoreCard, field: str, kind: Kind, name: str, meaning: str, asides: tuple[Line, ...] = ()) -> Line:
    figure: Figure | None = getattr(card, field)
    reason = card.reasons.get(field, "").removeprefix(f"{NOT_COMPUTED}: ")
    return Line(name=name, kind=kind, meaning=meaning, figure=figure, reason=reason, asides=asides)


_NET = (
    ("flops_copy", "FLOPs, state copied", "copying the state of skipped blocks"),
    ("bytes_deferred", "bytes, state deferred", "running skipped blocks later, in chunks"),
)
_MORE_SAVINGS = (
    ("ees_blocks", "EES_blocks", "EES with every block counted alike, whatever its size."),
    ("ees_null", "EES_null", "What agreement by chance alone would give."),
    (
        "ees_first_match",
        "First-match EES",
        "Leaving at the first depth that agrees, even if a deeper one changes its mind: an upper bound.",
    ),
    (
        "ees_tv_10",
        "EES_tv(0.1)",
        "Total variation to the final distribution below 0.1 from there on: what sampling needs.",
    ),
    ("ees_tv_30", "EES_tv(0.3)", "The same, below 0.3."),
    ("ees_correct", "EES_correct", "EES over the tokens that the full model gets right."),
    ("ees_per_character", "EES per character", "EES with every token counted by the characters it stands for."),
    ("ees_without_loops", "EES without loops", "EES over the tokens outside repeated 8-grams."),
    ("aes_1pct_oracle", "Oracle(1 %)", "First-match savings and the best use of 1 % of tokens that may differ."),
    ("aes_5pct_oracle", "Oracle(5 %)", "The same with 5 %."),
    ("aes_ltt_1pct", "AES_ltt(1 %)", "AES with a certificate: at most 1 % disagreement, in 9 of 10 calibrations."),
    ("aes_ltt_5pct", "AES_ltt(5 %)", "The same with 5 %."),
    ("max_skip", "MaxSkip", "Largest fixed cut for all answer tokens at a bounded loss of task accuracy."),
)
_MORE_SHARES = (
    ("loop_share", "Tokens in loops", "Tokens in an 8-gram that occurred earlier in the same answer."),
    (
        "generated_mismatch",
        "Differs from generated",
        "Tokens whose top-1 in the parallel pass is not the token that was generated.",
    ),
)
