"""The lines that all three layouts share."""

import pytest

from exitbench.report.cautions import cautions
from exitbench.report.figures import (
    Kind,
    headline,
    interval_text,
    second_screen,
    subject,
    value_text,
)
from exitbench.score import Figure


def figure(value, low=None, high=None, n_prompts=20):
    return Figure(value=value, low=low, high=high, n_tokens=100, n_prompts=n_prompts)


@pytest.mark.parametrize(
    ("given", "value", "interval"),
    [
        (figure(0.1234, 0.1, 0.2), "0.123", "[0.100, 0.200]"),
        (figure(0.0, 0.0, 0.0), "0.000", "[0.000, 0.000]"),
        (figure(0.5, n_prompts=7), "0.500", "none with 7 prompts"),
        (figure(None), "n/a", "n/a"),
        (None, "not computed", "n/a"),
    ],
)
def test_missing_is_never_zero(given, value, interval):
    """A null printed as 0, or a real 0 printed as missing."""
    assert (value_text(given), interval_text(given)) == (value, interval)


def test_every_figure_of_the_card_is_shown(card):
    """A figure added to the card that no layout shows."""
    lines = [*headline(card), *second_screen(card)]
    shown = [line.figure for line in lines] + [aside.figure for line in lines for aside in line.asides]
    fields = {name: value for name, value in card if isinstance(value, Figure)}
    assert all(any(value is other for other in shown) for value in fields.values())
    nulls = sum(1 for name in card.reasons if name != "precision" and not name.endswith(("_thresholds", "_drafts")))
    assert sum(value is None for value in shown) == nulls + sum(score.eas is None for score in card.eas)


def test_what_is_not_computed_says_why(card, uncounted):
    """ "not computed" with nothing after it, or said twice."""
    missing = [line for line in (*headline(card), *second_screen(card)) if line.figure is None]
    of_text = {"EES_correct", "EES per character", "Bits per character"}
    assert {line.name for line in missing} == {"AES_ltt(1 %)", "AES_ltt(5 %)", "MaxSkip"} | of_text
    missing += [line for line in headline(uncounted.card) if line.figure is None]
    assert {line.name for line in missing} >= {"NES(1 %), FLOPs, state copied", "NES(5 %), FLOPs, state copied"}
    assert all(line.reason and "not computed" not in line.reason for line in missing)


def test_fast_card_shows_only_what_was_recorded(fast):
    """A screenful of nulls around the one figure; or their absence without a word."""
    shown = {line.name: line for line in (*headline(fast.card), *second_screen(fast.card))}
    assert {"EES", "EES_blocks", "EES without loops", "Tokens in loops", "Differs from generated"} <= shown.keys()
    assert not shown.keys() & {"EES*", "EES_null", "AES(1 %)", "Oracle(1 %)", "First-match EES", "EES_tv(0.1)"}
    assert not any(name.startswith("EAS") for name in shown)
    assert {name for name, line in shown.items() if line.figure is None} == {
        *("MaxSkip", "EES_correct", "EES per character")
    }
    (said,) = (line for line in cautions(fast.card) if "--fast" in line)
    assert "EES*, AES" in said
    assert "trace without --fast" in said


def test_full_card_has_no_word_of_fast(card):
    """A caution about what was recorded after all."""
    assert all("--fast" not in caution for caution in cautions(card))


def test_kinds_of_saving_are_told_apart(card):
    """Blocks skipped and projected speed under one heading."""
    kinds = {line.name: line.kind for line in headline(card)}
    assert kinds["EES"] is kinds["AES(1 %)"] is Kind.BLOCKS
    assert kinds["NES(1 %), FLOPs, state copied"] is kinds["NES(5 %), bytes, state deferred"] is Kind.NET
    assert kinds["Lossless projection"] is Kind.PROJECTED


def test_subject_names_what_was_counted(card, build):
    """Text documents called prompts, or given text called answers."""
    assert subject(card).endswith("384 tokens of the model's own greedy answers, 24 prompts")
    assert subject(build(num_prompts=12, on="text").card).endswith("192 tokens of given text, 12 documents")


def test_cautions_say_the_shares_in_words(card):
    """Loops that inflate a score without a word about them; or a caution about nothing."""
    assert (card.loop_share.value, card.generated_mismatch.value) == (0, 0)
    assert not any("8-gram" in line or "parallel pass" in line for line in cautions(card))
    share = card.loop_share.model_copy(update={"value": 0.06})
    said = " ".join(cautions(card.model_copy(update={"loop_share": share, "generated_mismatch": share})))
    assert "6.0 % of the tokens repeat an 8-gram" in said
    assert "On 6.0 % of the tokens the parallel pass" in said


def test_cautions_about_few_prompts_failures_and_text(build):
    """A figure from three prompts that looks as solid as any other; failed samples passed over in silence."""
    said = " ".join(cautions(build(num_prompts=4, failed=[3], on="text").card))
    assert "too few for intervals" in said
    assert "1 of 5 samples failed" in said  # the failed one and the four that were traced
    assert "given text" in said
    assert "None" not in said
