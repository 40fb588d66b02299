"""The simulated loop, against what a real decoder counts on the same exits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from exitbench.decode.cache import RowStates
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.run import Run
from exitbench.decode.stack import Stack
from exitbench.errors import CostError
from exitbench.models.load import load
from exitbench.models.toy import save_toy
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.replay.loop import LoopRules, Path, simulate

LENGTHS = (19, 3, 24, 1, 17)
LIMIT = max(LENGTHS)
PROBES = (1, 3, 4)
NUM_BLOCKS = 6
POLICY = FixedDepth(threshold=1, schedule=Schedule(depths=PROBES))
PROMPTS = [[3 + (7 * row + i) % 200 for i in range(4 + 3 * row)] for row in range(len(LENGTHS))]
EXITS = [
    np.random.default_rng(row).choice([*PROBES, 4, NUM_BLOCKS, NUM_BLOCKS], size=length)
    for row, length in enumerate(LENGTHS)
]


@pytest.fixture(scope="module", params=["llama", "gemma3_text"])
def loaded(request, tmp_path_factory):
    """A toy whose last two blocks do nothing, so that drafts from depth 4 are accepted and others hardly ever."""
    loaded = load(str(save_toy(tmp_path_factory.mktemp("toy"), request.param, num_blocks=NUM_BLOCKS)))
    for number, block in enumerate(loaded.adapter.blocks):
        for name, parameter in block.named_parameters():
            if "post_" in name:  # or the embedding would outweigh what the blocks of Gemma add
                parameter.fill_(9)
            elif number >= NUM_BLOCKS - 2 and ("o_proj" in name or "down_proj" in name):
                parameter.zero_()
    return loaded


class Scripted:
    """A prober that knows beforehand where tokens leave; behind an answer's end none does."""

    def __init__(self, exits):
        self.exits, self.now = exits, {}

    def start(self, rows, positions):
        for row, position in zip(rows, positions, strict=True):
            known = self.exits[row]
            self.now[row] = known[position] if position < len(known) else NUM_BLOCKS

    def looks_at(self, depth):
        return depth in PROBES

    def leaves(self, depth, rows, hidden, previous):
        return np.array([self.now[row] == depth for row in rows]), None


@pytest.fixture(scope="module")
def abilities(loaded):
    return ExitDecoder(loaded, POLICY).abilities


@pytest.fixture
def decode(loaded, abilities, monkeypatch):
    """From options of the decoder to its answers and counts: tokens leave, and answers end, where the script says."""

    def take(run, row, token, depth, taken=Run.take):
        is_last = len(run.rows[row].ids) + 1 == len(run.batch.prober.exits[row])
        run.limit = len(run.batch.prober.exits[row]) if is_last else LIMIT
        taken(run, row, token, depth)
        run.limit = LIMIT

    def decoded(chunks=True, **options):
        able = replace(abilities, chunks=(chunks,) * NUM_BLOCKS)
        decoder = ExitDecoder(loaded, POLICY, abilities=able, **options)
        exits = iter(EXITS)
        monkeypatch.setattr(decoder, "_prober", lambda num_rows, _: Scripted([next(exits) for _ in range(num_rows)]))
        return decoder.decode(PROMPTS, max_new_tokens=LIMIT, ends=())

    monkeypatch.setattr(Run, "take", take)
    return decoded


@pytest.fixture(scope="module")
def agreement(loaded):
    """Of each row (T,) whether its exits say what the full model says on its own path, and what that is."""
    never = ExitDecoder(loaded, POLICY.model_copy(update={"threshold": None}))
    agrees, answers = [], []
    for prompt, exits in zip(PROMPTS, EXITS, strict=True):
        (answer,) = never.decode([prompt], max_new_tokens=len(exits), ends=()).answers
        ids = torch.tensor([[*prompt, *answer.ids[:-1]]])
        hidden = loaded.adapter.capture(ids, slice(len(prompt) - 1, None))
        top1_id = torch.stack([loaded.adapter.readout(at_depth).argmax(-1) for at_depth in hidden])
        agrees.append((top1_id[torch.from_numpy(exits), torch.arange(len(exits))] == top1_id[-1]).numpy())
        answers.append(answer.ids)
    return agrees, answers


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("rows", ["regroup", "lockstep"])
@pytest.mark.parametrize(("state", "most_waiting"), [("deferred", 8), ("deferred", 2), ("deferred", 1), ("copy", 8)])
def test_counts_are_those_of_a_real_batch(decode, loaded, state, most_waiting, rows, chunks):
    """Any slip in who waits where, who is taken along and when waiting tokens are sent on, with rows that end early."""
    counts = decode(chunks=chunks, state=state, rows=rows, most_waiting=most_waiting).counts
    rules = LoopRules(
        num_blocks=NUM_BLOCKS,
        probes=PROBES,
        state=state,
        row_mode=rows,
        most_waiting=most_waiting,
        chunks=(chunks,) * NUM_BLOCKS,
    )
    paths = [Path(prompt_length=len(prompt), exits=exits) for prompt, exits in zip(PROMPTS, EXITS, strict=True)]
    prompt, later = simulate(rules, paths)
    assert (prompt + later).totals() == dict(counts)
    assert prompt.tokens == len(LENGTHS)
    assert later.tokens == sum(LENGTHS) - len(LENGTHS)


@pytest.mark.parametrize("chunks", [True, False])
@pytest.mark.parametrize("draft", [1, 3])
def test_counts_are_those_of_real_drafting(agreement, decode, loaded, draft, chunks):
    """Drafts behind the first wrong one forgotten, or blocks with a window put back for nothing."""
    agrees, answers = agreement
    decoded = decode(chunks=chunks, state="lossless", draft=draft)
    assert [answer.ids for answer in decoded.answers] == answers
    rules = LoopRules(
        num_blocks=NUM_BLOCKS,
        probes=PROBES,
        state="lossless",
        draft=draft,
        chunks=(chunks,) * NUM_BLOCKS,
        croppable=tuple(block.window is None for block in loaded.shape.blocks),
    )
    paths = [
        Path(prompt_length=len(prompt), exits=exits, agrees=agree, limit=LIMIT)
        for prompt, exits, agree in zip(PROMPTS, EXITS, agrees, strict=True)
    ]
    prompt, later = simulate(rules, paths)
    assert (prompt + later).totals() == dict(decoded.counts)
    assert 0 < later.accepted < later.drafts


def test_parts_add_up_to_what_really_ran(decode, loaded, monkeypatch):
    """Passes filed under other rows or tokens than went together; state put together more often than it is moved."""
    seen, moved = [], []

    def block(stack, index, calls, hidden, real=Stack.block):
        seen.append((index, *hidden.shape[:2]))
        return real(stack, index, calls, hidden)

    def use(states, index, rows, real=RowStates.use):
        moved.append(bool(states._resident[index]) and states._resident[index] != rows)
        real(states, index, rows)

    monkeypatch.setattr(Stack, "block", block)
    monkeypatch.setattr(RowStates, "use", use)
    decode(state="deferred", rows="regroup")
    paths = [Path(prompt_length=len(prompt), exits=exits) for prompt, exits in zip(PROMPTS, EXITS, strict=True)]
    prompt, later = simulate(LoopRules(num_blocks=NUM_BLOCKS, probes=PROBES), paths)
    both = prompt + later
    assert sorted(both.passes.elements()) == sorted(seen)
    assert both.moves.total() == sum(moved) > 0


def test_refusals():
    """Exits that no policy could have made; drafts counted as accepted because nobody said otherwise."""
    rules = LoopRules(num_blocks=4, probes=(2,))
    with pytest.raises(CostError, match=r"leaves at depth 3, where nobody looks; expected one of \[2, 4\]"):
        simulate(rules, [Path(prompt_length=3, exits=np.array([2, 3]))])
    with pytest.raises(CostError, match="whether drafts agree"):
        simulate(replace(rules, state="lossless"), [Path(prompt_length=3, exits=np.array([4, 2]))])
