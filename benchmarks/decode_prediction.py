"""Does replay know beforehand what decoding with early exit takes?

A small trace of each model's own answers says where tokens would leave; from that alone follows what the loop does, and
from the times of the loop's parts on this machine the time a token. Then the same prompts are really decoded, in turns
with the loop that never exits and with the timing of the parts. What is predicted and what is measured shares nothing
but the machine. Replay sees exits on the full model's own path; a real decoder without checks walks its own, so that
both mean depths are shown. Answers go on behind their ends, for on a path of their own they may end elsewhere, and a
batch with fewer rows takes longer a token; prompts are those of the trace with the longest answers.

The cells below were fixed before anything was measured. "off" is projected over measured time, minus 1; the aim is to
be within 10 % in at least 10 of 12.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from common import print_result
from exitbench.api import TraceOptions, trace
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.engine import Answer, Decoded
from exitbench.decode.times import LoopTimer, probe_kind
from exitbench.decode.timing import Timing, time_in_turns
from exitbench.errors import CostError
from exitbench.models.load import LoadedModel, load
from exitbench.policies import ExitPolicy
from exitbench.policies.agreement import HiddenSaturation
from exitbench.policies.confidence import TopProbability
from exitbench.policies.schedule import Schedule
from exitbench.policies.static import FixedDepth
from exitbench.replay.cost import ProbeCost
from exitbench.replay.look import look
from exitbench.replay.loop import LoopCounts, LoopRules, simulate
from exitbench.replay.loop import Path as Walk
from exitbench.replay.project import DecoderTimes, loop_work, project_decode
from exitbench.trace.prompts import conversation_ids, has_chat_template
from exitbench.trace.table import Trace
from exitbench.workloads import load_workload

MODELS = ("smollm2-135m-instruct", "gemma3-270m")
CELLS = (
    ("fixed", "deferred", 1, "regroup"),
    ("fixed", "lossless", 1, "regroup"),
    ("top1-prob", "deferred", 1, "regroup"),
    ("top1-prob", "copy", 1, "regroup"),
    ("hidden", "lossless", 1, "regroup"),
    ("top1-prob", "deferred", 4, "regroup"),
    ("top1-prob", "deferred", 4, "lockstep"),
    ("hidden", "copy", 4, "regroup"),
)
"""Policy, state, batch and what rows do that have left; for each model."""
MOST_DISAGREEING = 0.1
"""Of the trace's tokens, with a calibrated threshold."""
DRAFT, MOST_WAITING = 4, 8
WITHIN = 0.1
_TRIED = 2
"""Prompts traced for each that is decoded."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--prompts", type=int, default=4, help="a multiple of 4, the largest batch")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows = [row for model in arguments.models for row in Model(model, arguments).rows()]
    cells = [row for row in rows if row["policy"] != "never"]
    close = sum(abs(row["off"]) <= WITHIN for row in cells)
    print_result(
        f"{arguments.prompts} prompts, {arguments.max_new_tokens} new tokens, {arguments.repeats} turns: projected "
        f"within {WITHIN:.0%} of measured in {close} of {len(cells)} cells",
        rows,
        {
            "num_prompts": arguments.prompts,
            "max_new_tokens": arguments.max_new_tokens,
            "repeats": arguments.repeats,
            "num_threads": torch.get_num_threads(),
            "num_cells": len(cells),
            "num_close": close,
            "num_slower": sum(row["verdict"] == "slower" for row in cells),
            "rows": rows,
        },
    )


class Model:
    """One model with its trace, policies and prompts."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        self._options = arguments
        self._loaded: LoadedModel = load(name, dtype=arguments.dtype, device=arguments.device)
        workload = load_workload("mini").limited(_TRIED * arguments.prompts)
        with tempfile.TemporaryDirectory() as folder:
            options = TraceOptions(max_new_tokens=arguments.max_new_tokens)
            self._trace: Trace = trace(self._loaded, workload, out=folder, options=options)
        tokenizer = self._loaded.tokenizer
        chat = has_chat_template(tokenizer)
        lengths = np.bincount(self._trace.sample_index[self._trace.turn == 0], minlength=len(workload.samples))
        self._chosen = np.argsort(-lengths, kind="stable")[: arguments.prompts]
        turns = [workload.samples[number].turns[:1] for number in self._chosen]
        self._prompts = [conversation_ids(tokenizer, turn, [], chat=chat) for turn in turns]
        num_blocks = self._loaded.adapter.num_blocks
        deep = 2 * num_blocks // 3
        some = Schedule(every=min(8, num_blocks // 2))
        self._policies: dict[str, ExitPolicy] = {
            "never": FixedDepth(),
            "fixed": FixedDepth(threshold=deep, schedule=Schedule(depths=(deep,))),
            "top1-prob": self._calibrated(TopProbability(schedule=some)),
            "hidden": self._calibrated(HiddenSaturation(schedule=some)),
        }
        self._abilities = ExitDecoder(self._loaded, FixedDepth()).abilities

    def _context(self, batch: int) -> int:
        """Slots before a token, on average: those of the longest prompt of its batch, and half of the answer."""
        lengths = [len(prompt) for prompt in self._prompts]
        widths = [max(lengths[i : i + batch]) for i in range(0, len(lengths), batch)]
        return int(np.mean(widths)) + self._options.max_new_tokens // 2

    def _calibrated(self, policy: ExitPolicy) -> ExitPolicy:
        """The loosest threshold with which, and with all stricter ones, enough tokens agree."""
        seen, top1_id = look(self._trace, policy), self._trace.top1_id
        best = None
        for threshold in reversed(policy.grid(self._trace.num_blocks).tolist()):
            tried = policy.model_copy(update={"threshold": threshold})
            exits = tried.exits(seen)
            if (top1_id[np.arange(len(exits)), exits] != top1_id[:, -1]).mean() > MOST_DISAGREEING:
                break
            best = threshold
        return policy.model_copy(update={"threshold": best})

    def rows(self) -> list[dict[str, Any]]:
        """One a cell, and one for each batch size without exits."""
        found = []
        for batch in sorted({cell[2] for cell in CELLS}):
            cells = [("never", "deferred", batch, "regroup"), *(cell for cell in CELLS if cell[2] == batch)]
            rows = tuple(n for n in (1, 2, 4) if n <= batch)
            timer = LoopTimer(self._loaded, context=self._context(batch), rows=rows, abilities=self._abilities)
            jobs = {str(cell): self._job(cell) for cell in cells}
            timed = time_in_turns(
                jobs | {"parts": _parts(timer)},
                baseline=str(cells[0]),
                device=self._loaded.model.device,
                repeats=self._options.repeats,
            )
            times = timer.times()
            found += [self._row(cell, times, *timed[str(cell)]) for cell in cells]
        return found

    def _job(self, cell: tuple[str, Any, int, Any]) -> Callable[[], Decoded]:
        policy, state, batch, rows = cell
        decoder = ExitDecoder(
            self._loaded,
            self._policies[policy],
            state=state,
            rows=rows,
            draft=DRAFT,
            most_waiting=MOST_WAITING,
            abilities=self._abilities,
        )

        def run() -> Decoded:
            tokens, prompts = self._options.max_new_tokens, self._prompts
            parts = [
                decoder.decode(prompts[i : i + batch], max_new_tokens=tokens, ends=())
                for i in range(0, len(prompts), batch)
            ]
            return _together(parts)

        return run

    def _counts(self, cell: tuple[str, Any, int, Any], exits: Any) -> LoopCounts:
        """What the loop would do behind the first token of each answer."""
        name, state, batch, rows = cell
        policy, trace_ = self._policies[name], self._trace
        num_blocks = trace_.num_blocks
        probes = policy.schedule.at(num_blocks).tolist() if policy.threshold is not None else []
        rules = LoopRules(
            num_blocks=num_blocks,
            probes=tuple(probes),
            reads_out=probe_kind(policy) == "readout",
            state=state,
            row_mode=rows,
            most_waiting=MOST_WAITING,
            draft=DRAFT,
            chunks=self._abilities.chunks,
            croppable=tuple(block.window is None for block in self._loaded.shape.blocks),
        )
        agrees = trace_.top1_id[np.arange(len(exits)), exits] == trace_.top1_id[:, -1]
        own = [np.flatnonzero((trace_.sample_index == i) & (trace_.turn == 0)) for i in self._chosen]
        walks = [
            Walk(
                prompt_length=int(trace_.position[mine[0]]) + 1,
                exits=exits[mine],
                agrees=agrees[mine],
                limit=self._options.max_new_tokens,
            )
            for mine in own
        ]
        counts = LoopCounts()
        for i in range(0, len(walks), batch):
            counts += simulate(rules, walks[i : i + batch])[1]
        return counts

    def _row(
        self, cell: tuple[str, Any, int, Any], times: DecoderTimes, timing: Timing, decoded: Decoded
    ) -> dict[str, Any]:
        policy = self._policies[cell[0]]
        kind = probe_kind(policy)
        exits = policy.exits(look(self._trace, policy))
        counts = self._counts(cell, exits)
        mean_exit = float(exits[np.isin(self._trace.sample_index, self._chosen)].mean())
        projected = 1000 * project_decode(counts, times, probe=kind)
        measured = timing.decode_ms_per_token
        assert measured is not None, "every answer was one token long"
        depths = [depth for answer in decoded.answers for depth in (answer.depths or ())]
        return {
            "model": self._loaded.name,
            "policy": cell[0],
            "state": cell[1],
            "batch": cell[2],
            "rows": cell[3],
            "depth replayed": mean_exit,
            "depth decoded": float(np.mean(depths)),
            "gross": 1 - mean_exit / self._trace.num_blocks,
            **self._net(counts, kind, cell[2]),
            "projected ms": projected,
            "measured ms": measured.median,
            "from": measured.q10,
            "to": measured.q90,
            "off": projected / measured.median - 1,
            "times never": timing.ratio.median,
            "verdict": _verdict(timing),
        }

    def _net(self, counts: LoopCounts, kind: str, batch: int) -> dict[str, float | None]:
        """Work saved, probes and state paid."""
        probe = ProbeCost(readout=kind == "readout")
        try:
            work, full = loop_work(counts, self._loaded.shape, context=self._context(batch), probe=probe)
        except CostError:
            return {"net FLOPs": None, "net bytes": None}
        return {"net FLOPs": 1 - work.flops / full.flops, "net bytes": 1 - work.bytes / full.bytes}


def _verdict(timing: Timing) -> str:
    """Against the loop that never exits, in the same turns, prompts included."""
    if timing.ratio.q10 > 1:
        return "slower"
    return "faster" if timing.ratio.q90 < 1 else "unclear"


def _parts(timer: LoopTimer) -> Callable[[], Decoded]:
    """A round of the timer as one of the jobs that take turns; the first is its warm-up."""
    done = False

    def run() -> Decoded:
        nonlocal done
        timer.round()
        if not done:
            timer.forget()
            done = True
        return Decoded(answers=(Answer(ids=(0,)),), prefill_s=None, total_s=0.0, counts={})

    return run


def _together(parts: Sequence[Decoded]) -> Decoded:
    """Batches one after the other."""
    return Decoded(
        answers=tuple(answer for part in parts for answer in part.answers),
        prefill_s=sum(part.prefill_s or 0.0 for part in parts),
        total_s=sum(part.total_s for part in parts),
        counts={name: sum(part.counts[name] for part in parts) for name in parts[0].counts},
    )


if __name__ == "__main__":
    main()
