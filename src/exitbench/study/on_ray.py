"""The cells of a study on a Ray cluster: what is left of a model's cells is one task, so that one load serves them.

Ray decides where and when a task runs, by its needs of CPUs, GPUs and memory. Nodes need not see the folder of the
study: cells and rows travel as values, the driver alone writes, and a trace is scratch on its node. Each cell arrives
when it is measured, so a lost worker costs the cell in work; what its task still had to do is handed in again, and a
cell that lost `TRIES` workers is a failed one.

Before a node measures anything its exitbench, torch and transformers, and the files of lenses and policies, are held
against the driver's, and a node that differs ends the run, since figures from two programs are not one study. Weights
are held against those of the plan when they are loaded; others make failed cells.

Non-goals: joining a cluster (`cluster`), scheduling, one model on several nodes (accelerate spreads it over the GPUs of
one).
"""

import importlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from exitbench.config import TUNED
from exitbench.errors import ExitbenchError, StudyError
from exitbench.models.strict import one_line
from exitbench.progress import Progressor
from exitbench.sizes import parse_size, size_text
from exitbench.study.attempt import Attempt, SharedModel, Task
from exitbench.study.cells import Cell, StudiedModel
from exitbench.study.cluster import Head, differences, fingerprint
from exitbench.study.estimate import size_of
from exitbench.study.folder import MeasuredWeights, StudyFolder
from exitbench.study.ledger import Ledger
from exitbench.study.measure import failed_rows, observed_of
from exitbench.study.spec import StudySpec
from exitbench.study.untrained import Nulls

__all__ = ["TRIES", "RayRunner", "needs_of"]

TRIES = 3
"""Workers that a cell may lose before it counts as failed."""
_LOOK_S = 5.0
"""How often the cluster is looked at while no cell comes."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What the task of a model asks of a node."""

    cpus: float
    gpus: float
    memory: int
    """Bytes of main memory; 0 where the model's size is not known."""

    @property
    def by_name(self) -> dict[str, float]:
        """As Ray names them."""
        return {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}


def needs_of(model: StudiedModel, spec: StudySpec) -> Resources:
    """What the cells of a model need: what the spec says, else one CPU, one GPU unless they run on the CPU, and memory.

    Memory is that of the weights, twice where untrained twins stand beside them, and what a trace may hold.
    """
    given = {**spec.needs.model_dump(exclude_none=True), **model.entry.needs.model_dump(exclude_none=True)}
    if "memory" in given:
        memory = parse_size(given["memory"]) or 0
    elif size := size_of(model, spec.settings.dtype):
        copies = 2 if "untrained" in spec.measure else 1
        memory = round(copies * size.total * size.bytes_each) + (parse_size(spec.settings.memory) or 0)
    else:
        memory = 0
    gpus = given.get("gpus", 0 if spec.settings.device == "cpu" else 1)
    return Resources(cpus=given.get("cpus", 1), gpus=gpus, memory=memory)


class RayRunner:
    """Measures cells on a Ray cluster.

    Args:
        ray: the library, see `cluster.connected`.
    """

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def run(
        self,
        task: Task,
        todo: Sequence[Cell],
        num_cells: int,
        folder: StudyFolder,
        ledger: Ledger,
        progress: Progressor,
    ) -> None:
        """Measure cells, and write their rows as they come.

        Args:
            task: of the study.
            todo: cells, those of one model next to each other.
            num_cells: of the study, those that are there already included.
            folder: of its results.
            ledger: where time is booked.
            progress: where to show messages and a bar.

        Raises:
            StudyError: no node is large enough for a model, a node has another exitbench or other files, or the head
                of the cluster was lost.
        """
        groups = [
            _Group(cells=list(cells), needs=needs_of(model, task.spec))
            for model, cells in groupby(todo, key=lambda cell: cell.model)
        ]
        nodes = _nodes(self._ray)
        for group in groups:
            _require_room(group, nodes)
        with progress.bar("Cells", len(todo)) as advance:
            driver = _Driver(self._ray, task, todo, folder)
            number = num_cells - len(todo)
            for cell, attempt, where in driver.attempts(groups, ledger, progress):
                number += 1
                said = "done" if attempt.failure is None else f"failed: {attempt.failure}"
                progress.say(f"cell {number} of {num_cells}, {where}: {cell.name}: {said}")
                folder.write(cell, attempt.rows, attempt.observed)
                advance(1)


def _nodes(ray: Any) -> list[dict[str, float]]:
    """What each node that is there now has, whoever uses it."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _has_room(nodes: Sequence[Mapping[str, float]], needs: Resources) -> bool:
    """Whether one of the nodes could ever run a task."""
    return any(all(node.get(name, 0) >= need for name, need in needs.by_name.items()) for node in nodes)


def _require_room(group: "_Group", nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse what Ray would wait for without end."""
    needs = group.needs
    if not _has_room(nodes, needs):
        raise StudyError(
            f"{group.cells[0].model.name} needs {needs.cpus:g} CPUs, {needs.gpus:g} GPUs and "
            f"{size_text(needs.memory)} of memory, and no node of the cluster has that; give it less under 'needs' in "
            "the spec, or add a larger node"
        )


class _Driver:
    """Tasks handed in, and what comes of them."""

    def __init__(self, ray: Any, task: Task, todo: Sequence[Cell], folder: StudyFolder) -> None:
        self._ray = ray
        self._task = task
        self._folder = folder
        self._files = _files_of(task)
        self._here = fingerprint(self._files)
        self._study = ray.put((task, {cell.id: cell for cell in todo}))
        self._measure = ray.remote(_measure)
        self._head = Head(ray)
        self._said = False
        self._running: dict[Any, _Group] = {}
        errors = ray.exceptions
        self._lost = (
            *(errors.WorkerCrashedError, errors.NodeDiedError, errors.LocalRayletDiedError),
            *(errors.ObjectLostError, errors.OutOfMemoryError),
        )

    def attempts(
        self, groups: Sequence["_Group"], ledger: Ledger, progress: Progressor
    ) -> Iterator[tuple[Cell, Attempt, str]]:
        """Cells as they come, each with where it was measured."""
        try:
            for group in groups:
                try:
                    self._submit(group)
                except ValueError as error:  # quantities that are no needs to Ray
                    raise StudyError(f"needs of {group.cells[0].model.name}: {one_line(error)}") from error
            while self._running:
                with ledger.waiting():
                    stream = self._ready(progress)
                group = self._running[stream]
                try:
                    attempt, node = self._next(stream)
                except self._lost as error:
                    progress.say(f"a worker was lost with {group.cells[0].name}: {one_line(error)}")
                    if (given_up := self._again(stream, error)) is not None:
                        yield group.cells.pop(0), given_up, "given up"
                    if group.cells:
                        self._submit(group)
                else:
                    group.lost = 0
                    ledger.cells_s += attempt.seconds
                    cell = group.cells.pop(0)
                    if not group.cells:  # its end is not waited for, for a worker may be lost in it
                        del self._running[stream]
                    yield cell, attempt, f"on {node}"
        finally:
            for stream in self._running:
                self._ray.cancel(stream, force=True)

    def _ready(self, progress: Progressor) -> Any:
        """A task that has something to say.

        Raises:
            StudyError: the head of the cluster was lost.
        """
        ready: list[Any] = []
        while not ready:
            ready, _ = self._ray.wait(list(self._running), timeout=_LOOK_S, fetch_local=False)
            if self._head.look() and not ready:
                self._say_who_waits(progress)
        return ready[0]

    def _say_who_waits(self, progress: Progressor) -> None:
        """Say once that no node is left for a model."""
        nodes = _nodes(self._ray)
        names = [group.cells[0].model.name for group in self._running.values() if not _has_room(nodes, group.needs)]
        if names and not self._said:
            progress.say(f"no node is left with room for {names[0]}: waiting for one")
        self._said = bool(names)

    def _submit(self, group: "_Group") -> None:
        model, ids = group.cells[0].model, [cell.id for cell in group.cells]
        measure = self._measure.options(
            name=f"exitbench {model.name}",
            num_cpus=group.needs.cpus,
            num_gpus=group.needs.gpus,
            memory=group.needs.memory or None,
            max_retries=0,  # Ray would measure all of a model's cells again
        )
        stream = measure.remote(self._here, self._files, self._study, ids, self._folder.weights_of(model))
        self._running[stream] = group

    def _next(self, stream: Any) -> tuple[Attempt, str]:
        """The next cell of a task.

        Raises:
            RayError: of those in `_lost`.
            StudyError: the node cannot take part.
        """
        errors = self._ray.exceptions
        try:
            result: tuple[Attempt, str] = self._ray.get(next(stream))
        except self._lost:
            raise
        except errors.RayTaskError as error:
            if isinstance(error.cause, ExitbenchError):
                raise StudyError(str(error.cause)) from error
            raise StudyError(_no_part(error.cause or error)) from error
        except errors.RayError as error:
            raise StudyError(_no_part(error)) from error
        return result

    def _again(self, stream: Any, error: BaseException) -> Attempt | None:
        """Count a lost worker; the first of its cells as a failed one if that lost too many."""
        group = self._running.pop(stream)
        self._ray.cancel(stream, force=True)  # where only its result was lost
        group.lost += 1
        if group.lost < TRIES:
            return None
        group.lost = 0
        cell = group.cells[0]
        observed = observed_of(cell, None)
        reason = f"{TRIES} workers were lost while they measured it, the last one with: {one_line(error)}"
        rows = failed_rows(cell, self._task.spec, reason, observed, command=self._task.command)
        return Attempt(rows=rows, observed=observed, seconds=0.0)


@dataclass(kw_only=True)
class _Group:
    """What is left of the cells of a model."""

    cells: list[Cell]
    needs: Resources
    lost: int = 0
    """Workers, since the last cell came."""


def _no_part(error: BaseException) -> str:
    return f"a worker cannot take part ({one_line(error)}); install the same exitbench on all nodes"


def _files_of(task: Task) -> list[str]:
    """Lenses and policies that the spec names, which must be the same on all nodes."""
    lenses = [text.removeprefix(TUNED) for text in task.spec.readouts if text.startswith(TUNED)]
    policies = [entry.policy for entry in task.spec.policies if entry.policy.endswith(".json")]
    return sorted({str(task.base / Path(name).expanduser()) for name in (*lenses, *policies)})


@cache
def _nulls() -> Nulls:
    """Untrained nulls of this worker, which tasks share."""
    return Nulls()


def _measure(
    here: dict[str, str],
    files: list[str],
    study: tuple[Task, dict[str, Cell]],
    ids: list[str],
    before: MeasuredWeights | None,
) -> Iterator[tuple[Attempt, str]]:
    """What a node runs: cells of one model, each with the node's name.

    Args:
        here: the driver's `fingerprint`.
        files: behind it.
        study: with all cells that are to be measured.
        ids: of the cells of this model.
        before: what other cells of the model were measured on.

    Raises:
        StudyError: this machine differs.
    """
    if why := differences(fingerprint(files), here):
        raise StudyError(f"node {platform.node()} differs: {why}; make it the same on all nodes, and run again")
    task, cells = study
    torch.set_num_threads(max(1, int(_assigned_cpus())))
    shared = SharedModel(task=task, before=before, nulls=_nulls())
    for name in ids:
        with TemporaryDirectory(prefix="exitbench-", ignore_cleanup_errors=True) as scratch:
            attempt = shared.measure(cells[name], Path(scratch) / "trace")
        yield attempt, platform.node()
    shared.release()


def _assigned_cpus() -> float:
    """CPUs that Ray gave to this task."""
    context = importlib.import_module("ray").get_runtime_context()
    return float(context.get_assigned_resources().get("CPU", 1))
