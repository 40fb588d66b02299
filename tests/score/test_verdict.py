"""The sentence must not promise what the figures do not hold."""

from exitbench.score.verdict import verdict
from exitbench.stats.figure import Figure


def figure(value):
    return None if value is None else Figure(value=value, low=None, high=None, n_tokens=1, n_prompts=1)


def say(ees, aes, met=0.004, flops=None, moved=None):
    named = {"ees": ees, "aes_1pct": aes, "aes_1pct_disagreement": met}
    named |= {"nes_flops_copy_1pct": flops, "nes_bytes_deferred_1pct": moved}
    return verdict({name: figure(value) for name, value in named.items()}, {"aes_1pct": "too few prompts"})


def test_plain_case():
    """Percentages and shares mixed up."""
    assert say(0.123, 0.034) == (
        "EES 0.12: a perfect, free detector would skip 12 % of the blocks' work; "
        "a plain confidence threshold held to 1 % disagreement attains 3.4 %."
    )


def test_says_when_it_does_not_pay():
    """A hopeful sentence over a zero."""
    assert "does not pay here" in say(0.12, 0.0)
    assert "nothing to gain" in say(0.001, 0.0)
    assert "does not pay" not in say(0.12, 0.03)


def test_missing_is_not_zero():
    """An AES that could not be computed read as 0 %."""
    sentence = say(0.12, None, None)
    assert "not known (too few prompts)" in sentence
    assert "0 %" not in sentence


def test_a_broken_promise_is_told():
    """More disagreement on held-out prompts than was asked for, kept silent."""
    assert "met 1.7 %" in say(0.12, 0.05, met=0.017)
    assert "met" not in say(0.12, 0.05, met=0.0099).replace("method", "")


def test_a_net_loss_is_told():
    """Savings announced that probes eat up, a unit named that gains, or an unknown cost taken for a loss."""
    assert say(0.12, 0.05, flops=-0.3, moved=-0.2).endswith("cost more than that in FLOPs and bytes.")
    assert say(0.12, 0.05, flops=-0.3, moved=0.01).endswith("cost more than that in FLOPs.")
    assert say(0.12, 0.05, flops=None, moved=-0.01).endswith("cost more than that in bytes.")
    assert say(0.12, 0.05, flops=0.01, moved=None).endswith("attains 5.0 %.")
