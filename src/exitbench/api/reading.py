"""The jobs that need no model: scoring, replaying and reporting what was traced."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from exitbench.api.folders import trace_folder
from exitbench.config import ReportForm
from exitbench.errors import ReportError
from exitbench.policies import ExitPolicy, write_policy
from exitbench.progress import SILENT, Progressor
from exitbench.replay.assemble import ReplayOptions, policies_named
from exitbench.replay.assemble import replay as replay_trace
from exitbench.replay.calibrate import calibrate
from exitbench.replay.result import Replay
from exitbench.report import Result, write_report
from exitbench.report.explorer import EXPLORER_BUDGET_BYTES, explorer_payload
from exitbench.report.page import charts_of
from exitbench.report.study_folders import SingleResult, holds_rows, report_studies
from exitbench.score import ScoreCard
from exitbench.score import score as score_trace
from exitbench.study.of_result import labels_of, rows_of_result
from exitbench.study.results import SPEC_FILE
from exitbench.trace.store import is_trace_folder, read_trace
from exitbench.trace.table import Trace

__all__ = ["REPLAY_FILE", "Reported", "policies_named", "read_result", "replay", "report", "save_policies", "score"]

REPLAY_FILE = "replay.json"
MOST_IN_FULL = 12
"""Single results that a page shows each in full; of more it shows what it shows of a study's cells, and the tokens."""


@dataclass(frozen=True, kw_only=True)
class Reported:
    """What was written, and what of it failed."""

    path: Path
    failed_cells: int
    """Of studies."""
    traces: list[Trace]
    """Of single results."""


def score(source: Trace | Path | str, *, seed: int | None = None, skip_corrupt: bool = False) -> ScoreCard:
    """Score a trace, in memory or in a folder; the seed is the trace's own unless another is given."""
    traced = source if isinstance(source, Trace) else read_trace(Path(source), skip_corrupt=skip_corrupt)
    return score_trace(traced, seed=traced.manifest.settings.seed if seed is None else seed)


def replay(
    source: Trace | Path | str,
    policies: Sequence[ExitPolicy] | None = None,
    *,
    options: ReplayOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> Replay:
    """Compare exit policies on a trace, in memory or in a folder; every one that it allows if none are given."""
    traced = source if isinstance(source, Trace) else read_trace(trace_folder(Path(source)))
    return replay_trace(traced, policies, options=options, command=command, progress=progress)


def save_policies(
    traced: Trace, policies: Sequence[ExitPolicy], folder: Path | str, *, options: ReplayOptions | None = None
) -> list[Path]:
    """Calibrate policies on all prompts of a trace and write one file for each of them and target."""
    written = []
    for policy, target, ready in calibrate(traced, policies, options or ReplayOptions()):
        parts = (policy.name, policy.schedule.text, target.procedure, target.risk, f"{target.eps:g}")
        file = Path(folder) / ("_".join(part.replace(",", "-") for part in parts) + ".json")
        write_policy(file, ready)
        written.append(file)
    return written


def read_result(path: Path, *, seed: int | None = None, skip_corrupt: bool = False) -> Result:
    """Read a result to report on: the folder of a run, a trace folder (scored here), or a saved score.

    Raises:
        ReportError: none of these.
    """
    if path.is_file():
        try:
            return Result(card=ScoreCard.from_json(json.loads(path.read_text(encoding="utf-8"))), trace=None)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ReportError(
                f"{path} is no JSON ({error}); give the score.json of a run, a Parquet file of rows, or a folder"
            ) from error
    folder = trace_folder(path)
    if not is_trace_folder(folder):
        raise ReportError(_no_result(path))
    traced = read_trace(folder, skip_corrupt=skip_corrupt)
    card = score(traced, seed=seed)
    saved = path / REPLAY_FILE
    replayed = _replay_beside(saved, traced, partly=skip_corrupt) if folder != path and saved.is_file() else None
    return Result(card=card, trace=traced, replay=replayed)


def _no_result(path: Path) -> str:
    if not path.exists():
        return f"{path}: there is no such file or folder"
    if (path / SPEC_FILE).is_file():
        return f"{path} is a study of which nothing was measured yet; run 'exitbench study' first"
    return f"{path} holds no result; give the folder of 'exitbench run', 'exitbench trace' or 'exitbench study'"


def _replay_beside(file: Path, traced: Trace, *, partly: bool) -> Replay:
    """The saved replay of a trace; `partly` if the trace may lack some of its tokens now."""
    try:
        replayed = Replay.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReportError(f"{file} is no JSON ({error}); delete it, or run again what wrote it") from error
    except ReportError as error:
        raise ReportError(f"{file}: {error}") from error
    there, here = traced.manifest, (replayed.model, replayed.workload, replayed.settings)
    tokens = replayed.n_tokens if partly else traced.num_tokens
    if here != (there.model, there.workload, there.settings) or replayed.n_tokens != tokens:
        raise ReportError(f"{file} is of another trace than lies beside it; delete it, or run again what wrote it")
    return replayed


def report(
    paths: Sequence[Path | str],
    *,
    out: Path | str,
    form: ReportForm = "html",
    seed: int | None = None,
    skip_corrupt: bool = False,
) -> Reported:
    """Write one self-contained HTML page, a table or pictures on the results at `paths`.

    Studies and single results may be mixed. A page on single results alone shows each of them in full, up to
    `MOST_IN_FULL` of them.

    Args:
        paths: folders of studies, runs or traces, saved scores, or files of rows.
        out: the file to write; for pictures, a folder.
        form: "html", "md", "csv" and "parquet" (every row), or "png" and "svg" (a folder of pictures).
        seed: of scoring; the traces' own if left out.
        skip_corrupt: leave out parts of traces that are damaged.

    Raises:
        ReportError: a path without results.
    """
    given = list(dict.fromkeys(map(Path, paths)))
    studies = [path for path in given if holds_rows(path)]
    others = [path for path in given if path not in studies]
    results = [read_result(path, seed=seed, skip_corrupt=skip_corrupt) for path in others]
    failed = 0
    if form == "html" and not studies and len(results) <= MOST_IN_FULL:
        write_report(results, Path(out))
    else:
        labels = labels_of([result.card for result in results])
        shown = [_shown(*named, form, len(results)) for named in zip(others, results, labels, strict=True)]
        failed = report_studies(studies, Path(out), form=form, results=shown)
    return Reported(path=Path(out), failed_cells=failed, traces=[r.trace for r in results if r.trace is not None])


def _shown(path: Path, result: Result, label: str, form: ReportForm, num_results: int) -> SingleResult:
    """As it stands beside others: its tokens on a page, its charts as pictures, and its rows anywhere."""
    explorer = None
    if form == "html" and result.trace is not None:
        explorer = explorer_payload(result.trace, budget_bytes=EXPLORER_BUDGET_BYTES // num_results)
    return SingleResult(
        path=path,
        title=f"{label} on {result.card.workload.name}",
        rows=rows_of_result(result.card, result.replay, label=label),
        explorer=explorer,
        charts=charts_of(result) if form in ("png", "svg") else (),
    )
