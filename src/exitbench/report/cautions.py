"""What a reader must know before quoting a card's figures, in words."""

from collections.abc import Iterator

from exitbench.report.figures import level_text, percent, value_text
from exitbench.score.scorecard import ScoreCard
from exitbench.trace.precision import Precision

__all__ = ["cautions"]

_FAST = (
    "Traced with --fast, which records only when each token is decided: for EES*, AES, first match, EES_tv, EAS, and "
    "agreement, entropy, loss and accuracy by depth, trace without --fast (into another folder)."
)
_NO_SPEED = (
    "Blocks' work skipped is no speed: probes, the state of skipped blocks and the hardware's limits come off it."
)


def cautions(card: ScoreCard) -> tuple[str, ...]:
    """Sentences to read with care, the gravest first."""
    fast = (_FAST,) if card.settings.recorded == "decisions" else ()
    return (*_about_samples(card), *_about_tokens(card), _NO_SPEED, *fast)


def _about_samples(card: ScoreCard) -> Iterator[str]:
    if card.precision is not None:
        several = f" Intervals are at level {level_text(card)}, so that the stated one holds 95 % over all looks."
        asked = f"Precision {card.precision.target:g} asked: {_outcome(card.precision)}."
        yield asked + (several if card.precision.n_looks > 1 else "")
    if card.n_failed:
        yield f"{card.n_failed} of {card.n_prompts + card.n_failed} samples failed and are in no figure."
    if card.ees.value is not None and card.ees.low is None:
        yield f"{card.n_prompts} prompts are too few for intervals: the figures may be chance."


def _outcome(precision: Precision) -> str:
    look, available = precision.looks[-1], precision.n_available
    width = look.width_text
    where = f"at look {len(precision.looks)} of {precision.n_looks}"
    if not precision.reached:
        return f"{width} is what all {available} prompts give, so it was not reached"
    if precision.n_looks == 1:
        return f"{width} reached with all {available} prompts, too few for an earlier look"
    saved = percent(1 - look.n_samples / available, 0)
    return f"{width} reached {where} with {look.n_samples} of {available} prompts, {saved} of them saved"


def _about_tokens(card: ScoreCard) -> Iterator[str]:
    if card.settings.readout != "logit":
        yield (
            f"Depths below the last are read out through a trained lens ({card.settings.readout}): the figures are the "
            "model's with that lens, whose own products every probe would have to pay for."
        )
    if card.settings.on == "text":
        yield "The tokens are given text, not the model's own answers: suitability in generation may differ."
    if (loops := card.loop_share) is not None and loops.value:
        yield (
            f"{percent(loops.value)} of the tokens repeat an 8-gram from earlier in the same answer. Loops are "
            "easy to predict and say little of the model's use: "
            f"EES is {value_text(card.ees)} with them, {value_text(card.ees_without_loops)} without."
        )
    if (mismatch := card.generated_mismatch) is not None and mismatch.value:
        yield (
            f"On {percent(mismatch.value)} of the tokens the parallel pass, which is what is scored, would "
            "have chosen another token than the one generated step by step; rounding alone can do this."
        )
