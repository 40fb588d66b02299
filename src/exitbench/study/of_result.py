"""What one score card, and the replay beside it, would be as the rows of a study's cell.

So that results of single runs stand beside those of studies. The study's name is that of the command that made them;
the facts are those that the card was made with. Non-goals: reading files, and figures that a card does not hold.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from exitbench.env import versions_text
from exitbench.replay.hold import ANY
from exitbench.replay.result import Replay
from exitbench.score.scorecard import ScoreCard
from exitbench.study.figures import Found, card_figures, replay_figures
from exitbench.study.results import IDENTITY
from exitbench.study.rows import LEVEL_TAG, Row

__all__ = ["SINGLE", "labels_of", "rows_of_result"]

SINGLE = "run"
"""What stands in place of a study's name."""
_ID_DIGITS = 16
_FACTS = ("family", "generation", "release_month", "kind", "stage", "total_params_b", "active_params_b")


def labels_of(cards: Sequence[ScoreCard]) -> list[str]:
    """What each card's model is called among the others: its name, and more where other weights have that name too.

    Folders are often named alike ("step-1000"); the one above tells them apart, else the weights' hash does.
    """
    weights, folders = defaultdict(set), defaultdict(set)
    for card in cards:
        weights[card.model.name].add(card.model.weights_sha256)
        folders[_in_folder(card)].add(card.model.weights_sha256)
    labels = []
    for card in cards:
        shared = len(weights[card.model.name]) > 1
        by_hash = f"{card.model.name} ({card.model.weights_sha256[:8]})"
        longer = _in_folder(card) if len(folders[_in_folder(card)]) == 1 else by_hash
        labels.append(longer if shared else card.model.name)
    return labels


def _in_folder(card: ScoreCard) -> str:
    return "/".join(PurePath(card.model.source).parts[-2:])


def rows_of_result(card: ScoreCard, replay: Replay | None = None, *, label: str | None = None) -> list[Row]:
    """The rows of one result.

    Args:
        card: of a trace.
        replay: of the same trace, for figures of policies.
        label: of the model; its name if left out.
    """
    model, shape, settings, workload = card.model, card.shape, card.settings, card.workload
    identity = {
        "study": SINGLE,
        "model": label or model.name,
        "source": model.source,
        "revision": model.revision,
        "weights_sha256": model.weights_sha256,
        "config_sha256": model.config_sha256,
        "workload": workload.name,
        "workload_sha256": workload.sha256,
        "on": settings.on,
        "readout": settings.readout,
        "dtype": settings.dtype,
        "attention": settings.attention,
        "device": settings.device,
        "chat_template": settings.chat_template,
        "max_new_tokens": settings.max_new_tokens,
        "document_tokens": settings.document_tokens,
        "limit": settings.limit,
        "libraries": versions_text(card.libraries),
        **{name: getattr(card.facts, name) for name in _FACTS},
        "num_blocks": shape.num_blocks,
        "hidden_size": shape.hidden_size,
        "vocab_size": shape.vocab_size,
        "tags": {} if card.precision is None else {LEVEL_TAG: f"{100 * card.level:g} %"},
        "created": card.created,
    }
    rows = _rows(identity | {"seed": card.seed, "command": card.command}, card_figures(card))
    if replay is not None:
        rows += _rows(identity | {"seed": replay.seed, "command": replay.command}, _policies(replay))
    return rows


def _rows(identity: dict[str, Any], figures: Iterable[Found]) -> list[Row]:
    deciding = json.dumps([*map(identity.get, IDENTITY), identity["tags"]])
    cell = hashlib.sha256(deciding.encode()).hexdigest()[:_ID_DIGITS]
    return [Row(**identity, cell=cell, status=found.status, **vars(found)) for found in figures]


def _policies(replay: Replay) -> Iterator[Found]:
    first = replay.points[0]
    held = [p for p in replay.points if (p.procedure, p.risk, p.eps) == (first.procedure, first.risk, first.eps)]
    yield from replay_figures(replay, [None if p.probes == ANY else f"{p.policy} {p.probes}" for p in held])
