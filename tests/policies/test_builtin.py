"""The registry of policies."""

from exitbench.policies.builtin import ORACLES, POLICIES


def test_the_published_criteria_are_there():
    """A policy written and never registered, or renamed under people's scripts."""
    assert set(POLICIES) >= {
        *("fixed-depth", "top1-prob", "margin", "entropy", "hidden-cosine", "kl-prev", "patience"),
        *("calm-decay", "per-depth", "skipdecode", "gate"),
    }
    assert [oracle.name for oracle in ORACLES] == ["oracle-first-match", "oracle-stable"]
