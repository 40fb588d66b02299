"""What the exit loop does with a batch, worked out from the depths at which its tokens leave, without a model.

Which blocks run, on how many rows and tokens at once, follows from the exits alone: who waits where, whom the next
token takes along, when waiting tokens are sent on, which drafts are checked together. This is that bookkeeping, as
`exitbench.decode` does it, with counters in place of computation; a test holds it to the counts of real decoding. So a
trace is enough to say what decoding by a policy would take (see `project`).

What a trace cannot say: where a wrong draft's successors would have left, which a real decoder drafts before it knows.
Here they leave where the full model's own tokens at those places do.

Non-goals: prompts that are not decoded together, models whose rows cannot be told apart.

Shapes: T tokens of an answer, L blocks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exitbench.config import RowMode, StateMode
from exitbench.errors import CostError

__all__ = ["LoopCounts", "LoopRules", "Path", "simulate"]


@dataclass(frozen=True, kw_only=True)
class LoopRules:
    """How tokens are decoded."""

    num_blocks: int
    probes: tuple[int, ...]
    """Depths at which a policy looks, rising; of one that looks at no token, the depth at which it leaves."""
    reads_out: bool = True
    """Whether what it looks at is a readout of the whole vocabulary, which then is the answer's too."""
    state: StateMode = "deferred"
    row_mode: RowMode = "regroup"
    most_waiting: int = 8
    draft: int = 4
    chunks: tuple[bool, ...] | None = None
    """(L) whether a block takes several tokens of a row at once; None: all do."""
    croppable: tuple[bool, ...] | None = None
    """(L) whether a block forgets rejected drafts without seeing those before again; None: all do."""

    def takes_chunks(self, block: int) -> bool:
        """Whether a block, counted from 0, takes several tokens of a row at once."""
        return self.chunks is None or self.chunks[block]

    def crops(self, block: int) -> bool:
        """Whether a block, counted from 0, forgets without seeing anything again."""
        return self.croppable is None or self.croppable[block]


@dataclass(frozen=True, kw_only=True)
class Path:
    """One prompt and its answer."""

    prompt_length: int
    exits: NDArray[np.int64]
    """(T,) depth at which each token of the answer leaves, L for those that do not."""
    agrees: NDArray[np.bool_] | None = None
    """(T,) whether the prediction there is the full model's; for the state "lossless"."""
    limit: int | None = None
    """Longest answer that was allowed; None: as long as it is."""


@dataclass(kw_only=True)
class LoopCounts:
    """What was done, by part; all counters are to be added up."""

    passes: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    """(block from 0, rows, tokens of each) -> times it was passed."""
    block_calls: int = 0
    block_tokens: int = 0
    skipped_blocks: int = 0
    completions: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(block, rows) -> times the state was copied."""
    probes: Counter[int] = field(default_factory=Counter)
    """Rows looked at together -> times."""
    argument_passes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(rows, tokens) -> passes for arguments alone."""
    moves: Counter[int] = field(default_factory=Counter)
    """Rows -> times that a block's state was put together for other rows than it held."""
    steps: Counter[int] = field(default_factory=Counter)
    """Rows -> passes of the model's own code around the blocks."""
    heads: Counter[int] = field(default_factory=Counter)
    """Rows -> such passes whose head had to run, for no probe had read out already."""
    choices: Counter[int] = field(default_factory=Counter)
    """Rows -> times that tokens were chosen."""
    rounds: Counter[int] = field(default_factory=Counter)
    """Drafts + 1 -> checks."""
    drafts: int = 0
    accepted: int = 0
    flushes: int = 0
    tokens: int = 0
    """New tokens."""

    def __add__(self, other: "LoopCounts") -> "LoopCounts":
        added: dict[str, Any] = {one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)}
        return LoopCounts(**added)

    def totals(self) -> dict[str, int]:
        """Under the names under which a decoder counts."""
        return {
            "block_calls": self.block_calls,
            "block_tokens": self.block_tokens,
            "skipped_blocks": self.skipped_blocks,
            "probes": sum(rows * times for rows, times in self.probes.items()),
            "completions": sum(rows * times for (_, rows), times in self.completions.items()),
            "argument_passes": self.argument_passes.total(),
            "flushes": self.flushes,
            "rounds": self.rounds.total(),
            "drafts": self.drafts,
            "accepted": self.accepted,
        }


def simulate(rules: LoopRules, paths: Sequence[Path]) -> tuple[LoopCounts, LoopCounts]:
    """Count what decoding a batch takes.

    Args:
        rules: of decoding.
        paths: of the prompts that are decoded together; with the state "lossless" one after the other.

    Returns:
        Counts of the prompts with the first token of each answer, and of all later tokens.

    Raises:
        CostError: an exit where no probe is, or drafts of which it is not known whether they agree.
    """
    depths = {*rules.probes, rules.num_blocks}
    for path in paths:
        odd = next((int(depth) for depth in path.exits if depth not in depths), None)
        if odd is not None:
            raise CostError(f"a token leaves at depth {odd}, where nobody looks; expected one of {sorted(depths)}")
        if rules.state == "lossless" and path.agrees is None:
            raise CostError("whether drafts agree with the full model is needed for the state 'lossless'")
    if rules.state != "lossless":
        return _Loop(rules, paths).run()
    prompt, later = LoopCounts(), LoopCounts()
    for path in paths:
        first, rest = _Drafting(rules, [path]).run()
        prompt, later = prompt + first, later + rest
    return prompt, later


@dataclass(frozen=True, kw_only=True)
class _Train:
    """Consecutive tokens of some rows at one depth, in the slots from start to stop."""

    rows: tuple[int, ...]
    start: int
    stop: int
    left: frozenset[int] = frozenset()
    """Rows whose newest token has left already."""

    def part(self, rows: Sequence[int]) -> "_Train":
        return _Train(rows=tuple(rows), start=self.start, stop=self.stop, left=self.left.intersection(rows))


class _Loop:
    """One batch; methods are named after those of the real one.

    Args:
        rules: of decoding.
        paths: of its rows.
    """

    def __init__(self, rules: LoopRules, paths: Sequence[Path]) -> None:
        self._rules, self._paths = rules, paths
        self._width = max(path.prompt_length for path in paths)
        self._waiting: list[dict[int, tuple[int, int]]] = [{} for _ in range(rules.num_blocks)]
        self._resident: list[tuple[int, ...]] = [()] * rules.num_blocks
        self._arguments: set[tuple[tuple[int, ...], int, int]] = set()
        self._counts = LoopCounts()
        self._exits: dict[int, int] = {}
        """Where the newest token of each row leaves."""
        self._read: set[int] = set()
        """Rows whose logits are known before the model's tail runs."""
        self._checks = False

    def run(self) -> tuple[LoopCounts, LoopCounts]:
        """Counts until the first token of every answer, and from there on."""
        self._begin()
        prompt, self._counts = self._counts, LoopCounts()
        self._go_on()
        return prompt, self._counts

    def _begin(self) -> None:
        rows = tuple(range(len(self._paths)))
        self._exits = {row: int(self._paths[row].exits[0]) for row in rows}
        self._step(rows, 0, self._width, finish=True)
        self._choose(rows)

    def _go_on(self) -> None:
        for position in range(1, max(len(path.exits) for path in self._paths)):
            for row, path in enumerate(self._paths):
                if len(path.exits) == position:
                    self._drop(row)
            rows = tuple(row for row, path in enumerate(self._paths) if len(path.exits) > position)
            self._exits = {row: int(self._paths[row].exits[position]) for row in rows}
            slot = self._width + position - 1
            self._step(rows, slot, slot + 1)
            self._choose(rows)

    def _choose(self, rows: Sequence[int]) -> None:
        self._counts.choices[len(rows)] += 1
        self._counts.tokens += len(rows)

    def _drop(self, row: int) -> None:
        for waiting in self._waiting:
            waiting.pop(row, None)

    def _step(self, rows: tuple[int, ...], start: int, stop: int, *, looks: bool = True, finish: bool = False) -> None:
        self._arguments, self._read = {(rows, start, stop)}, set()
        self._send(_Train(rows=rows, start=start, stop=stop), 0, looks=looks, finish=finish)
        self._counts.steps[len(rows)] += 1
        self._counts.heads[len(rows)] += not self._read.issuperset(rows)
        if not finish:
            left = self._exits if looks else {}
            self._counts.skipped_blocks += sum(self._rules.num_blocks - depth for depth in left.values())
        self._flush_if_full(rows)

    def _send(self, train: _Train, depth: int, *, looks: bool, finish: bool) -> None:
        last = self._rules.num_blocks
        for block in range(depth, last):
            trains = self._picked_up(train, block)
            if len(trains) > 1:
                for each in trains:
                    self._send(each, block, looks=looks, finish=finish)
                return
            train = trains[0]
            self._pass_block(block, train)
            if looks and block + 1 in self._rules.probes:
                going = self._looked_at(train, block + 1, finish=finish)
                if going is None:
                    return
                train = going
        if self._checks:
            self._read.update(train.rows)

    def _pass_block(self, block: int, train: _Train) -> None:
        self._use(block, train.rows)
        counts, rows, tokens = self._counts, train.rows, train.stop - train.start
        counts.passes[block, len(rows), tokens] += 1
        counts.block_tokens += tokens * len(rows)
        if tokens == 1 or train.start == 0 or self._rules.takes_chunks(block):
            counts.block_calls += 1
            self._ask(rows, train.start, train.stop)
        else:
            counts.block_calls += tokens
            for slot in range(train.start, train.stop):
                self._ask(rows, slot, slot + 1)

    def _use(self, block: int, rows: tuple[int, ...]) -> None:
        """Note when a block's state is taken apart and put together for other rows."""
        if self._resident[block] != rows:
            self._counts.moves[len(rows)] += bool(self._resident[block])
            self._resident[block] = rows

    def _ask(self, rows: tuple[int, ...], start: int, stop: int) -> None:
        """Note when it is not known yet what blocks are called with."""
        if (rows, start, stop) not in self._arguments:
            self._arguments.add((rows, start, stop))
            self._counts.argument_passes[len(rows), stop - start] += 1

    def _looked_at(self, train: _Train, depth: int, *, finish: bool) -> _Train | None:
        looked = [row for row in train.rows if row not in train.left]
        if not looked:
            return train
        self._counts.probes[len(looked)] += 1
        leaving = [row for row in looked if self._exits[row] == depth]
        if not leaving:
            return train
        if self._rules.reads_out:
            self._read.update(leaving)
        train = _Train(rows=train.rows, start=train.start, stop=train.stop, left=train.left.union(leaving))
        going = [row for row in train.rows if row not in train.left]
        if finish or (self._rules.row_mode == "lockstep" and going):
            return train
        self._settle(train.part([row for row in train.rows if row in train.left]), depth)
        return train.part(going) if going else None

    def _settle(self, train: _Train, depth: int) -> None:
        if self._rules.state != "copy":
            waiting = self._waiting[depth]
            for row in train.rows:
                start = waiting[row][0] if row in waiting else train.start
                waiting[row] = (start, train.stop)
            return
        for block in range(depth, self._rules.num_blocks):
            self._use(block, train.rows)
            self._ask(train.rows, train.start, train.stop)
            self._counts.completions[block, len(train.rows)] += 1

    def _picked_up(self, train: _Train, block: int) -> list[_Train]:
        waiting = self._waiting[block]
        starts = [waiting[row][0] if row in waiting else train.start for row in train.rows]
        trains = []
        for start in sorted(set(starts)):
            rows = [row for row, its in zip(train.rows, starts, strict=True) if its == start]
            if start < train.start:
                for row in rows:
                    del waiting[row]
            part = train.part(rows)
            trains.append(_Train(rows=part.rows, start=start, stop=part.stop, left=part.left))
        return trains

    def _flush_if_full(self, rows: tuple[int, ...]) -> None:
        number = {row: sum(at[row][1] - at[row][0] for at in self._waiting if row in at) for row in rows}
        full = [row for row in rows if number[row] >= self._rules.most_waiting]
        while full:
            depth = next(d for d, at in enumerate(self._waiting) if full[0] in at)
            here = self._waiting[depth]
            span = here[full[0]]
            like = [row for row in full if here.get(row) == span and not any(row in at for at in self._waiting[:depth])]
            for row in like:
                del here[row]
            train = _Train(rows=tuple(like), start=span[0], stop=span[1], left=frozenset(like))
            self._send(train, depth, looks=False, finish=True)
            self._counts.flushes += 1
            full = [row for row in full if row not in like]


class _Drafting(_Loop):
    """One row, drafted and checked."""

    def __init__(self, rules: LoopRules, paths: Sequence[Path]) -> None:
        super().__init__(rules, paths)
        self._passed: list[list[_Train]] = [[] for _ in range(rules.num_blocks)]
        """Of each block, the trains of the present round."""

    def _begin(self) -> None:
        self._step((0,), 0, self._width, looks=False)
        self._choose((0,))

    def _go_on(self) -> None:
        (path,) = self._paths
        assert path.agrees is not None
        exits, agrees, length = path.exits, path.agrees, len(path.exits)
        limit = length if path.limit is None else path.limit
        self._checks, known = True, 1
        while known < length:
            most, drafts = min(self._rules.draft, limit - known - 1), 0
            while True:
                here = known + drafts
                # Behind the end of the answer nothing is known; whatever would be drafted there is checked right away.
                self._exits = {0: int(exits[here]) if here < length else self._rules.num_blocks}
                slot, looks = self._width + here - 1, drafts < most
                self._step((0,), slot, slot + 1, looks=looks)
                if not looks or self._exits[0] == self._rules.num_blocks:
                    break
                drafts += 1
            accepted = next((i for i in range(drafts) if not agrees[known + i]), drafts)
            self._counts.drafts += drafts
            self._counts.accepted += accepted
            self._counts.rounds[drafts + 1] += 1
            if accepted < drafts:
                self._put_back(self._width + known + accepted)
            for passed in self._passed:
                passed.clear()
            for _ in range(min(accepted + 1, length - known)):
                self._choose((0,))
                known += 1

    def _pass_block(self, block: int, train: _Train) -> None:
        self._passed[block].append(train)
        super()._pass_block(block, train)

    def _put_back(self, slot: int) -> None:
        for block, passed in enumerate(self._passed):
            if self._rules.crops(block):
                continue
            first = next(train for train in passed if train.stop > slot)
            if first.start < slot:
                self._pass_block(block, _Train(rows=first.rows, start=first.start, stop=slot))
