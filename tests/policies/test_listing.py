"""The list of policies: every one of them, with what it needs and where it comes from."""

from exitbench.policies import POLICIES
from exitbench.policies.builtin import ORACLES
from exitbench.policies.listing import policy_rows


def test_every_policy_and_oracle_has_a_row():
    """A policy that can be replayed and that nobody finds, or an oracle that looks like one."""
    rows = policy_rows()
    assert [row["name"] for row in rows] == [*POLICIES, *(oracle.name for oracle in ORACLES)]
    assert {row["name"] for row in rows if row["state"] == "replay only"} == {oracle.name for oracle in ORACLES}
    assert len({tuple(row) for row in rows}) == 1


def test_rows_say_what_a_policy_needs():
    """A readout that is needed and not said, or signals of another policy."""
    for row in policy_rows()[: len(list(POLICIES))]:
        kind = POLICIES.get(row["name"])
        assert row["signals"] == ", ".join(kind.signals)
        assert (row["readout"] == "yes", row["trained"] == "yes") == (kind.reads_out, kind.is_trained)
        assert row["state"] == ", ".join(kind.state)


def test_criteria_are_sentences_with_their_source():
    """A docstring cut in the middle, or one whose source stands elsewhere and is lost."""
    criteria = {row["name"]: row["criterion"] for row in policy_rows()}
    assert all(text.startswith("Leave ") and "\n" not in text for text in criteria.values())
    assert criteria["entropy"].endswith("(BranchyNet, arXiv 1709.01686).")
    assert "Source: softmax thresholds go back to BranchyNet and its successors" in criteria["top1-prob"]
