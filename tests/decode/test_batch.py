"""Which blocks run on which tokens of which rows, and when; exits are written down, the toy has 4 blocks."""

import pytest


def test_tokens_that_left_at_the_same_depth_go_on_together(drive):
    """Waiting tokens sent on one by one, so that weights are read for each; or left behind."""
    with drive({(0, 0): 2, (0, 1): 2}) as driven:
        assert [driven.go(), driven.go(), driven.go()] == [[2], [2], [4]]
    first, second, third = driven.passes[:2], driven.passes[2:4], driven.passes[4:]
    assert first == [(0, (0,), 0, 1), (1, (0,), 0, 1)]
    assert second == [(0, (0,), 1, 1), (1, (0,), 1, 1)]
    assert third == [(0, (0,), 2, 1), (1, (0,), 2, 1), (2, (0,), 0, 3), (3, (0,), 0, 3)]


def test_a_token_takes_along_what_left_before_it_and_waits_with_it(drive):
    """A token that waits at two depths, or one overtaken by a later one."""
    with drive({(0, 0): 1, (0, 1): 3}) as driven:
        assert [driven.go(), driven.go(), driven.go()] == [[1], [3], [4]]
    assert driven.passes[1:4] == [(0, (0,), 1, 1), (1, (0,), 0, 2), (2, (0,), 0, 2)]
    assert driven.passes[4:] == [(0, (0,), 2, 1), (1, (0,), 2, 1), (2, (0,), 2, 1), (3, (0,), 0, 3)]


def test_rows_with_different_numbers_waiting_go_apart(drive):
    """Rows put into one train whose tokens do not start at the same slot."""
    with drive({(0, 0): 2, (0, 1): 2, (1, 1): 2}, num_rows=2) as driven:
        assert [driven.go(), driven.go(), driven.go()] == [[2, 4], [2, 2], [4, 4]]
    assert driven.passes[-5:] == [
        *((1, (0, 1), 2, 1), (2, (0,), 0, 3), (3, (0,), 0, 3)),
        *((2, (1,), 1, 2), (3, (1,), 1, 2)),
    ]


@pytest.mark.parametrize("most_waiting", [1, 2])
def test_no_more_wait_than_may(drive, most_waiting):
    """Memory that grows for as long as all tokens leave early; a flush that forgets a token or sends it twice."""
    with drive(dict.fromkeys([(0, 0), (0, 1), (0, 2)], 1), most_waiting=most_waiting) as driven:
        for _ in range(4):
            driven.go()
    behind = [(first, number) for block, _, first, number in driven.passes if block == 3]
    assert behind == {1: [(0, 1), (1, 1), (2, 1), (3, 1)], 2: [(0, 2), (2, 2)]}[most_waiting]
    assert driven.batch.counts.flushes == {1: 3, 2: 1}[most_waiting]


def test_counts_are_what_was_done(drive):
    """Costs reckoned from counts that miss the blocks that ran later, or count a row once for a batch."""
    with drive({(0, 0): 1, (1, 0): 3}, num_rows=2) as driven:
        before = driven.batch.counts.block_tokens, driven.batch.counts.block_calls
        driven.go()
        counts = driven.batch.counts
        assert counts.skipped_blocks == 3 + 1
        assert counts.probes == 2 + 1 + 1
        assert counts.block_tokens - before[0] == 2 + 1 + 1
        assert counts.block_calls - before[1] == 3
        driven.go()
    assert counts.block_tokens - before[0] == 2 * 2 * 4
    assert counts.skipped_blocks == 4
    assert counts.completions == counts.flushes == 0


def test_lockstep_goes_on_with_all_until_all_have_left(drive):
    """Rows that go apart although they were to stay together, or a batch that runs on when nobody needs it."""
    with drive({(0, 0): 1, (1, 0): 3}, num_rows=2, row_mode="lockstep") as driven:
        assert driven.go() == [1, 3]
        assert driven.passes == [(0, (0, 1), 0, 1), (1, (0, 1), 0, 1), (2, (0, 1), 0, 1)]
        assert driven.go() == [4, 4]
    assert driven.passes[-1] == (3, (0, 1), 0, 2)
    assert driven.batch.counts.probes == 2 + 1 + 1 + 3 * 2


def test_a_row_that_ended_leaves_nothing_waiting(drive):
    """Tokens of an answer that is over, sent on with those of others."""
    with drive(dict.fromkeys([(0, 0), (1, 0)], 2), num_rows=2) as driven:
        driven.go()
        driven.batch.drop(0)
        assert driven.go((1,)) == [4]
        assert driven.passes[-2:] == [(2, (1,), 0, 2), (3, (1,), 0, 2)]
        assert not any(driven.batch._waiting)


def test_copied_state_is_written_at_once(drive):
    """Skipped blocks whose state is missing when the next token attends to it, or that are run for their output."""
    with drive({(0, 0): 1}, state="copy") as driven:
        driven.go()
        assert driven.passes == [(0, (0,), 0, 1)]
        assert driven.batch.counts.completions == 3
        width = driven.batch.width + 1
        assert [layer.get_seq_length() for layer in driven.batch.cache.layers] == [width] * 4
        driven.go()
    assert [(first, number) for _, _, first, number in driven.passes[1:]] == [(1, 1)] * 4
