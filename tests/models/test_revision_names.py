"""What the names of checkpoints tell, and which are chosen; no hub, no weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.errors import ModelError
from exitbench.models.revision_names import Checkpoint, NamePattern, in_training_order, log_spaced


def _checkpoint(name: str, *, step: int | None = None, tokens: int | None = None) -> Checkpoint:
    return Checkpoint(source="org/a", revision=name, name=name, step=step, tokens=tokens)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("step{step}", "step143000", (143000, None)),
        ("step{step}", "step0", (0, None)),
        ("step{step}", "step007", None),
        ("step{step}", "step10-tokens2B", None),
        ("step{step}", "main", None),
        ("step{step}", "step\u0661", None),
        ("ckpt_{checkpoint:03d}", "ckpt_007", (7, None)),
        ("ckpt_{checkpoint:03d}", "ckpt_7", None),
        ("ckpt_{checkpoint:03d}", "ckpt_1234", (1234, None)),
        ("step{step}-tokens{tokens}B", "step10000-tokens41B", (10000, 41 * 10**9)),
        ("stage1-step{step}-tokens{tokens}B", "stage2-step1-tokens1B", None),
        ("stage{stage}-step-{step}", "stage3-step-4720000", (4720000, None)),
        ("{tokens}M.{step}", "12M.3", (3, 12_000_000)),
        ("{tokens}-Bees", "12-Bees", (None, 12)),
        ("tokens{tokens}Bees", "tokens12Bees", (None, 12)),
        ("a.c{step}", "abc1", None),
    ],
)
def test_what_a_name_tells(text: str, name: str, expected: tuple[int | None, int | None] | None) -> None:
    """Bug: another stage's revision taken for this one's, billions read as ones, a dot that stands for any letter."""
    assert NamePattern(text).read(name) == expected


def test_tokens_of_a_step() -> None:
    """Bug: tokens rounded to billions where steps give them exactly, or steps reported as tokens."""
    assert NamePattern("step{step}", 2_097_152).read("step1000") == (1000, 2_097_152_000)
    assert NamePattern("step{step}-tokens{tokens}B", 4_194_304).read("step1000-tokens4B") == (1000, 4_194_304_000)
    assert NamePattern("tokens{tokens}B", 4_194_304).read("tokens4B") == (None, 4 * 10**9)


@given(step=st.integers(0, 10**9), tokens=st.integers(0, 10**6), width=st.integers(1, 9))
def test_names_come_back(step: int, tokens: int, width: int) -> None:
    """Bug: a name made by a pattern that the same pattern cannot read."""
    text = f"x{{step:0{width}d}}.{{tokens}}T+"
    assert NamePattern(text).read(text.format(step=step, tokens=tokens)) == (step, tokens * 10**12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step", "has the fields none"),
        ("step{}", "fields none|malformed"),
        ("step{step", "malformed"),
        ("{stage}", "has the fields stage"),
        ("{step}-{step}", "at most once"),
        ("{step:q}", "malformed"),
        ("{step.real}", "malformed|has the fields"),
    ],
)
def test_malformed_pattern(text: str, message: str) -> None:
    """Bug: a typing mistake in a spec that ends in a traceback, or that silently fits nothing."""
    with pytest.raises(ModelError, match=message) as caught:
        NamePattern(text)
    assert "\n" not in str(caught.value)


def test_order_is_that_of_training() -> None:
    """Bug: step1000 before step200 since letters are compared; tokens of some mixed with steps of others."""
    assert [c.name for c in in_training_order([_checkpoint(f"step{n}", step=n) for n in (1000, 200, 3)])] == [
        "step3",
        "step200",
        "step1000",
    ]
    mixed = [_checkpoint("a", step=5, tokens=10), _checkpoint("b", step=2), _checkpoint("c", step=3, tokens=70)]
    assert [c.name for c in in_training_order(mixed)] == ["b", "c", "a"]
    rounded = [_checkpoint("b", step=2, tokens=0), _checkpoint("c", step=1, tokens=0)]
    assert [c.name for c in in_training_order(rounded)] == ["c", "b"]
    with pytest.raises(ModelError, match="tells neither step nor tokens"):
        in_training_order([_checkpoint("a", tokens=10), _checkpoint("b", step=2)])


def test_choice_by_hand() -> None:
    """Bug: places that are even in steps and so all late, or step 0 that drags the others towards it."""
    run = [_checkpoint(f"step{n}", step=n) for n in (0, 1, 2, 4, 8, 10, 16, 32, 64, 100, 128, 1000)]
    assert [c.step for c in log_spaced(run, 5)] == [0, 1, 10, 100, 1000]
    assert [c.step for c in log_spaced(run[1:], 4)] == [1, 10, 100, 1000]
    assert [c.step for c in log_spaced(run, 2)] == [0, 1000]
    assert [c.step for c in log_spaced(run, 3)] == [0, 1, 1000]


def test_choice_is_by_tokens_where_they_are_known() -> None:
    """Bug: steps of a run whose batch grew, taken for what it has seen."""
    run = [_checkpoint(str(n), step=n, tokens=t) for n, t in ((1, 10), (2, 1000), (100, 1100), (200, 100_000))]
    assert [c.tokens for c in log_spaced(run, 3)] == [10, 1000, 100_000]


@given(
    steps=st.lists(st.integers(0, 10**7), min_size=1, max_size=60, unique=True),
    count=st.integers(2, 20),
)
def test_choice_is_distinct_ordered_and_keeps_both_ends(steps: list[int], count: int) -> None:
    """Bug: a checkpoint measured twice, the last one missed, or a choice that hangs on the order of the listing."""
    run = in_training_order([_checkpoint(f"step{n}", step=n) for n in steps])
    chosen = log_spaced(run, count)
    places = [c.step for c in chosen]
    assert len(chosen) == min(count, len(run))
    assert places == sorted(set(steps) & {place for place in places if place is not None})
    assert (chosen[0], chosen[-1]) == (run[0], run[-1])
    assert log_spaced(in_training_order(run[::-1]), count) == chosen


@given(start=st.integers(0, 6), decades=st.integers(2, 6))
def test_powers_of_ten_are_chosen_as_they_are(start: int, decades: int) -> None:
    """Bug: places that are not even in the logarithm."""
    run = [_checkpoint(str(n), step=10**n) for n in range(start, start + decades)]
    between = [_checkpoint(f"{n}.5", step=3 * 10**n) for n in range(start, start + decades - 1)]
    assert log_spaced(in_training_order([*run, *between]), decades) == run


def test_tokens_rounded_to_nothing() -> None:
    """Bug: a logarithm of 0 where a short run's tokens round to 0 billions."""
    run = [_checkpoint(str(n), step=n, tokens=0) for n in range(6)]
    assert [c.step for c in log_spaced(run, 4)] == [0, 1, 2, 5]
