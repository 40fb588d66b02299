"""Training a tuned lens, and seeing on other documents what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from exitbench.config import TUNED, LensOptions
from exitbench.env import library_versions
from exitbench.errors import LensError
from exitbench.lens import Origin, Plan, Translators, make_plan, train, translators_for
from exitbench.models.load import LoadedModel, load
from exitbench.models.strict import quiet_transformers
from exitbench.progress import SILENT, Progressor
from exitbench.score.assemble import DRAWS
from exitbench.signals import compute_signals
from exitbench.stats.bootstrap import Bootstrap, draw_weights
from exitbench.stats.figure import Curve, Figure
from exitbench.trace.lock import sole_writer
from exitbench.trace.prompts import cut_into_documents
from exitbench.workloads import Workload, load_workload

__all__ = ["TrainedLens", "check_lens_file", "lens"]


@dataclass(frozen=True, kw_only=True)
class TrainedLens:
    """A tuned lens, and what it does on documents that it was not trained on."""

    path: Path
    name: str
    """What traces call it."""
    steps: int
    tokens: int
    """Seen in training."""
    seconds: float
    """Of training, in this run."""
    n_tokens: int
    """Held out."""
    n_documents: int
    """Held out."""
    kl_logit: Curve
    """Mean KL, in nats, from the final distribution to the one read out by the logit lens, by depth."""
    kl_tuned: Curve
    """The same by the tuned lens."""

    def figures(self) -> tuple[list[Figure], list[Figure]]:
        """Both curves as a figure for each depth."""
        counts = {"n_tokens": self.n_tokens, "n_prompts": self.n_documents}
        first, second = (
            [
                Figure(value=value, low=low, high=high, **counts)
                for value, low, high in zip(curve.value, curve.low, curve.high, strict=True)
            ]
            for curve in (self.kl_logit, self.kl_tuned)
        )
        return first, second

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        curves = {name: getattr(self, name).as_json() for name in ("kl_logit", "kl_tuned")}
        return {**vars(self), "path": str(self.path.resolve()), **curves}


def lens(
    model: LoadedModel | str,
    workload: Workload | str,
    *,
    out: Path | str,
    options: LensOptions | None = None,
    progress: Progressor = SILENT,
) -> TrainedLens:
    """Train a tuned lens on a text into the file `out`, or finish a training that was begun there.

    Args:
        model: loaded, or what `load` takes.
        workload: loaded, or a name, file or `hub:` id; of prompts, what the user says is the text.
        out: a file ending in .safetensors, for `TraceOptions(readout="tuned:FILE")`.
        options: how.
        progress: where to show bars.

    Raises:
        ExitbenchError: one of its kinds, each with one line for people.
    """
    path, options = Path(out), options or LensOptions()
    check_lens_file(path)
    loaded = load(model, progress=progress) if isinstance(model, str) else model
    text = load_workload(workload) if isinstance(workload, str) else workload
    length = min(options.document_tokens, loaded.context_length or options.document_tokens)
    _, documents = cut_into_documents(loaded.tokenizer, text, length)
    plan = make_plan([len(document) for document in documents], tokens=options.tokens, seed=options.seed)
    origin = _origin(loaded, text, plan, length, options)
    with quiet_transformers(), sole_writer(path):
        start = perf_counter()
        train(loaded, documents, plan, origin, path, progress=progress)
        seconds = perf_counter() - start
        translators = translators_for(loaded, f"{TUNED}{path}")
        assert translators is not None
        held_out = [documents[index] for index in plan.held_out]
        kl_logit, kl_tuned = _divergences(loaded, translators, held_out, options.seed, progress)
    return TrainedLens(
        path=path,
        name=translators.name,
        steps=len(plan.steps),
        tokens=plan.tokens,
        seconds=seconds,
        n_tokens=sum(map(len, held_out)),
        n_documents=len(held_out),
        kl_logit=kl_logit,
        kl_tuned=kl_tuned,
    )


def check_lens_file(path: Path) -> None:
    """Refuse a file that no lens can be trained into.

    Raises:
        LensError: it is there already, or has another ending.
    """
    if path.suffix != ".safetensors":
        raise LensError(f"--out is {path}, expected a file ending in .safetensors")
    if path.exists():
        raise LensError(f"{path} exists and is not overwritten; choose another --out, or delete it")


def _origin(loaded: LoadedModel, text: Workload, plan: Plan, document_tokens: int, options: LensOptions) -> Origin:
    source = loaded.source
    return Origin(
        model=source.name,
        weights_sha256=source.weights_sha256,
        config_sha256=source.config_sha256,
        revision=source.revision,
        num_blocks=loaded.adapter.num_blocks,
        hidden_size=loaded.adapter.hidden_size,
        workload=text.name,
        workload_sha256=text.sha256,
        document_tokens=document_tokens,
        tokens=plan.tokens,
        steps=len(plan.steps),
        learning_rate=options.learning_rate,
        seed=options.seed,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        device=loaded.model.device.type,
        libraries=library_versions(),
    )


def _divergences(
    loaded: LoadedModel,
    translators: Translators,
    documents: Sequence[Sequence[int]],
    seed: int,
    progress: Progressor,
) -> list[Curve]:
    """Mean KL from the final distribution by depth, by the logit lens and by the tuned one; documents are resampled."""
    totals: list[list[Any]] = [[], []]
    with progress.bar("Measuring it on documents held out", len(documents)) as advance:
        for document in documents:
            ids = torch.tensor([document], device=loaded.model.device)
            hidden_LRD = loaded.adapter.capture(ids)
            for total, read_LRD in zip(totals, (hidden_LRD, translators(hidden_LRD)), strict=True):
                signals = compute_signals(hidden_LRD, ids[0].to(hidden_LRD.device), loaded.readout, read_LRD=read_LRD)
                total.append(signals["kl_final"].sum(axis=0, dtype=np.float64))
            advance(1)
    tokens = np.array([len(document) for document in documents], dtype=np.float64)
    rng = np.random.default_rng(seed)
    bootstrap = Bootstrap(weights=draw_weights([""] * len(documents), draws=DRAWS, rng=rng))
    depths = range(loaded.adapter.num_blocks + 1)
    return [bootstrap.mean(np.stack(total), tokens).curve("depth", depths) for total in totals]
