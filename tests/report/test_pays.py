"""The three sentences must follow from the figures in every case, the unpleasant ones included."""

import pytest

from exitbench.report.pays import pays
from exitbench.score.scorecard import NOT_RECORDED
from exitbench.stats.figure import Figure

FIGURES = {
    "ees": 0.12,
    "aes_5pct": 0.08,
    "aes_5pct_disagreement": 0.045,
    "nes_flops_copy_5pct": -0.3,
    "nes_bytes_deferred_5pct": -0.25,
    "lossless_projection": 1.0,
}


@pytest.fixture
def say(card):
    """The sentences of a card with other figures; a string in place of a figure is why it is missing."""

    def build(*, drafts=(None,) * 5, thresholds=(0.9,) * 5, **changes):
        values = FIGURES | changes
        reasons = {name: text for name, text in values.items() if isinstance(text, str)}
        figures = {
            name: None
            if name in reasons
            else Figure(value=value, low=value - 0.01, high=value + 0.01, n_tokens=9, n_prompts=24)
            for name, value in values.items()
        }
        lists = {"lossless_drafts": list(drafts), "aes_5pct_thresholds": list(thresholds)}
        return pays(card.model_copy(update=figures | lists | {"reasons": reasons}))

    return build


def test_gross_gains_that_are_lost_net(say):
    """A hopeful advice over probes that cost more than they save."""
    there_is, costs, so = say()
    assert "skip 12.0 % of the blocks' work" in there_is
    assert "allowed to change 5 % of the tokens, skips 8.0 %." in there_is
    assert "30.0 % more FLOPs (state copied) and 25.0 % more bytes of memory traffic" in costs
    assert so.startswith("Early exit by a threshold on every depth costs more than it saves here: look at fewer depths")
    assert so.endswith("changes no token, gains nothing either.")


def test_a_broken_promise_is_told(say):
    """More tokens changed on unseen prompts than was allowed, kept silent."""
    assert "(and changed 6.2 % of them on unseen prompts)" in say(aes_5pct_disagreement=0.062)[0]
    assert "and changed" not in say(aes_5pct_disagreement=0.05)[0]


@pytest.mark.parametrize(
    ("flops", "moved", "words"),
    [
        (0.05, 0.03, "can pay here in FLOPs and in bytes of memory traffic, if changing"),
        (0.05, -0.03, "can pay here in FLOPs, though not in bytes of memory traffic, if changing"),
        (-0.2, 0.03, "can pay here in bytes of memory traffic, though not in FLOPs, if changing"),
        (0.05, 0.0, "can pay here in FLOPs, if changing"),
        (0.004, 0.0, "saves next to nothing here"),
        (0.004, -0.2, "costs more than it saves here"),
        ("too old", 0.03, "can pay here in bytes of memory traffic, if changing"),
        ("too old", "no cache", "Whether early exit pays here cannot be said"),
    ],
)
def test_advice_follows_the_net_figures(say, flops, moved, words):
    """A gain in one unit sold as one in both, or an unknown cost taken for none."""
    sentences = say(nes_flops_copy_5pct=flops, nes_bytes_deferred_5pct=moved)
    assert words in sentences[2]
    for unknown in (text for text in (flops, moved) if isinstance(text, str)):
        assert f"that is not known: {unknown}" in sentences[1]


def test_known_costs_are_said_beside_unknown_ones(say):
    """One missing count that hides what is known."""
    costs = say(nes_flops_copy_5pct="traced before that was counted")[1]
    assert "25.0 % more bytes of memory traffic" in costs
    assert costs.endswith("; in FLOPs that is not known: traced before that was counted.")


def test_no_change_is_no_saving(say):
    """0.0 % fewer of something."""
    assert "as many FLOPs as before (state copied)" in say(nes_flops_copy_5pct=0.0004)[1]
    assert "takes 6.4 times as many FLOPs (state copied)" in say(nes_flops_copy_5pct=-5.37)[1]


def test_where_no_threshold_qualifies(say):
    """A zero explained as a cost, or sold as a saving."""
    nothing = {"aes_5pct": 0.0, "nes_flops_copy_5pct": 0.0, "nes_bytes_deferred_5pct": 0.0}
    _, costs, so = say(thresholds=(None,) * 5, **nothing)
    assert "no token is probed and none leaves early" in costs
    assert so.startswith("Early exit by confidence does not pay here; ")


def test_where_there_is_nothing_to_gain(say):
    """Advice to look at fewer depths where no depth has anything."""
    assert say(ees=0.001, aes_5pct=0.0)[2].startswith("Early exit has nothing to gain here; ")


def test_drafts_that_pay(say):
    """A speedup without its drafts, or one fold's choice in place of that of most."""
    drafts = ((20, 3), (21, 4), (21, 4), None, (21, 4))
    so = say(lossless_projection=1.23, drafts=drafts)[2]
    assert "drafting 4 tokens at depth 21" in so
    assert "1.23 times the speed (95 % interval 1.22 to 1.24)" in so
    assert "gains nothing" not in so


def test_drafts_that_gain_nothing_after_a_gain(say):
    """ "Nothing either" after a sentence that said there is something."""
    so = say(nes_flops_copy_5pct=0.1, nes_bytes_deferred_5pct=0.1)[2]
    assert so.endswith("gains nothing.")


def test_drafts_that_are_not_known(say):
    """A projection that could not be made read as one that gains nothing."""
    so = say(lossless_projection="the model keeps no state")[2]
    assert so.endswith("would gain is not known (the model keeps no state).")


def test_what_was_not_recorded_is_not_judged(fast, build):
    """A judgement, or three sentences of n/a, without the figures it rests on."""
    assert fast.card.reasons["aes_5pct"] == NOT_RECORDED
    assert pays(fast.card) == ()
    (sentence,) = pays(build(num_prompts=3).card)
    assert sentence.startswith("Whether early exit pays here cannot be said: cross-fitting needs at least 10 prompts")


def test_a_real_card(card):
    """Sentences that fail on figures nobody made up."""
    assert len(pays(card)) == 3
