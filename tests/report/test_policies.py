"""Tables of a replay: which rows, in which order, with which marks, and what is said below them."""

import pytest

from exitbench.replay.profiles import PROFILES
from exitbench.report.policies import drafting, held_to, policy_tables, replayed
from exitbench.stats.figure import Figure


def figure(value):
    return Figure(value=value, low=value - 0.01, high=value + 0.01, n_tokens=9, n_prompts=24)


def with_points(replay, change):
    """A replay whose points are changed by a function of a point: a dict of fields."""
    points = [point.model_copy(update=change(point)) for point in replay.points]
    return replay.model_copy(update={"points": points})


def names(row):
    return row.cells[:2]


def test_tuned_targets_come_first(replayed):
    """Certificates that nobody can have above the figures that exist."""
    turned = replayed.model_copy(update={"points": replayed.points[::-1]})
    for replay in (replayed, turned):
        assert [table.is_tuned for table in policy_tables(replay)] == [True, True, False, False]


def test_every_policy_is_in_its_table_or_below_it(replayed):
    """A policy lost between the rows and the reasons."""
    for table in policy_tables(replayed):
        points = [point for point in replayed.points if held_to(point) == table.target]
        below = " ".join(table.missing)
        for point in points:
            in_table = (point.policy, point.probes) in map(names, table.rows)
            named = f"{point.policy} ({point.probes})" in below or "any policy" in below
            assert in_table != named, (point.policy, point.probes)


def test_rows_are_ordered_and_cells_have_headings(replayed):
    """The best policy at the bottom, or a number under another's heading."""
    table = policy_tables(replayed)[1]
    point = next(p for p in replayed.points if (p.policy, p.probes, p.eps) == ("margin", "every", 0.05))
    saved = [float(row.short[2]) for row in table.rows]
    assert saved == sorted(saved, reverse=True)
    row = next(row for row in table.rows if names(row) == ("margin", "every"))
    got = dict(zip(table.headings, row.cells, strict=True))
    assert got["blocks skipped"] == point.saved_blocks.text()
    assert got["changed"] == f"{point.disagreement.value:.4f}"
    assert got["detected"] == f"{point.detectability.value:.3f}"
    assert got["FLOPs, net"] == point.net_flops_copy.text()
    assert got["bytes, net"] == point.net_bytes_deferred.text()


@pytest.mark.parametrize(
    ("difference", "p", "mark"), [(0.02, 0.04, "+"), (-0.02, 0.04, "-"), (0.02, 0.05, ""), (0.0, 0.01, "")]
)
def test_marks_need_significance(replayed, difference, p, mark):
    """A chance difference marked as one, or a loss marked as a gain."""

    def change(point):
        return {"over_plain": figure(difference), "over_plain_p": p} if point.policy == "margin" else {}

    for table in policy_tables(with_points(replayed, change))[:2]:
        row = next(row for row in table.rows if row.cells[0] == "margin")
        assert row.cells[3] == row.short[3] == mark


def test_nothing_qualified_is_said_and_not_tabled(replayed):
    """Screens of zeros; or a policy that leaves no token hidden as if it had not been tried."""

    def change(point):
        return {"thresholds": [None] * 5} if point.policy == "entropy" else {}

    table = policy_tables(with_points(replayed, change))[0]
    assert all(row.cells[0] != "entropy" for row in table.rows)
    (said,) = (text for text in table.missing if text.startswith("No threshold qualifies for "))
    assert "entropy (every)" in said
    assert said.endswith("every saving is 0.")


def test_no_best_policy_is_not_no_threshold(replayed):
    """A choice that found no gain told as thresholds that failed, while some of the chosen from stand in the table."""

    def change(point):
        return {"thresholds": [None] * 5} if point.policy == "best by flops_copy" else {}

    table = policy_tables(with_points(replayed, change))[0]
    (said,) = (text for text in table.missing if "best by flops_copy" in text)
    assert said.startswith("No policy gains on its calibration prompts for ")


def test_unknown_costs_are_explained_once(uncounted, make_replay):
    """A column of n/a without a word, or with one in every cell."""
    table = policy_tables(make_replay(uncounted))[0]
    assert all(dict(zip(table.headings, row.cells, strict=True))["FLOPs, net"] == "n/a" for row in table.rows)
    assert sum("traced before that was counted" in text for text in table.missing) == 1


def test_times_have_a_column_of_their_own(result, make_replay):
    """Projected time where it was not asked for, or in the column of bytes."""
    profile = next(iter(PROFILES.values()))
    timed = make_replay(result, profile=profile)
    table = policy_tables(timed)[0]
    assert table.headings[-1] == "time, net"
    assert all(len(row.cells) == len(row.short) == len(table.headings) for row in table.rows)
    assert profile.name in replayed(timed)


def test_drafting_in_words(replayed):
    """A projection without its drafts, or a missing one as none."""
    told = drafting(
        replayed.model_copy(update={"speculation": figure(1.2), "speculation_drafts": [(3, 2), None, (3, 2)]})
    )
    assert "1.200 [1.190, 1.210] times" in told
    assert told.endswith("drafts: depth 3, 2 tokens; none")
    missing = replayed.model_copy(update={"speculation": None, "reasons": {"speculation": "no cache"}})
    assert drafting(missing) == "lossless drafting: not projected (no cache)"


def test_targets_that_differ_little_have_tables_of_their_own(replayed):
    """0.5 % shown as 0 %, or two bounds in one table because both read 1 % when rounded."""
    replay = with_points(replayed, lambda point: {"eps": 0.005 if point.eps == 0.01 else 0.012})
    tables = policy_tables(replay)
    assert len(tables) == len(policy_tables(replayed))
    assert tables[0].target.startswith("at most 0.5 % of tokens changed")
    assert tables[1].target.startswith("at most 1.2 % of tokens changed")


def test_learned_probes_that_are_none_stand_below(replayed):
    """A dozen rows of zeros with thresholds in them, and not a word on why."""

    def learned(point):
        return (
            {"probes": "learned-3", "probe_depths": [[]] * 5, "thresholds": [0.0] * 5}
            if point.policy == "margin"
            else {}
        )

    for table in policy_tables(with_points(replayed, learned))[:2]:
        assert "margin" not in [row.cells[0] for row in table.rows]
        (said,) = (text for text in table.missing if text.startswith("No probe pays for "))
        assert "margin (learned-3)" in said


def test_unknown_times_have_a_reason(replayed):
    """A column of n/a for a profile that has no peak for the dtype, without the reason."""

    def lost(point):
        return {"net_time_deferred": None, "reasons": point.reasons | {"net_time_deferred": "no peak for bfloat16"}}

    timed = with_points(replayed, lost).model_copy(update={"profile": "laptop"})
    assert "time, net: no peak for bfloat16." in policy_tables(timed)[0].missing
    assert not any(text.startswith("time, net") for text in policy_tables(replayed)[0].missing)
