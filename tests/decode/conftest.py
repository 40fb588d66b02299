"""A toy model in float64, decoders of it that need no trial of their own, and batches whose exits are written down."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from exitbench.decode.abilities import Abilities
from exitbench.decode.batch import Batch, Train
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.probe import Reader
from exitbench.decode.stack import Stack
from exitbench.models.discover import probe_ids
from exitbench.models.load import ProvedModel, prove
from exitbench.models.toy import toy_model
from exitbench.policies.policy import ExitPolicy
from exitbench.policies.static import FixedDepth

NUM_BLOCKS = 4


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def proved() -> ProvedModel:
    """A toy Llama of 4 blocks; not to be changed."""
    return prove("toy", toy_model(num_blocks=NUM_BLOCKS, dtype=torch.float64), weights_sha256="a" * 64)


@pytest.fixture(scope="session")
def abilities(proved) -> Abilities:
    """What a trial finds of it."""
    return ExitDecoder(proved, FixedDepth()).abilities


@pytest.fixture(scope="session")
def prompts(proved) -> list[list[int]]:
    """Three of them, of different lengths."""
    return [piece.tolist() for piece in probe_ids(proved.model, 33)[0].split((13, 9, 11))]


@pytest.fixture(scope="session")
def make_decoder(proved, abilities) -> Callable[..., ExitDecoder]:
    """A decoder of the toy by a policy."""

    def make(policy: ExitPolicy, **options: Any) -> ExitDecoder:
        return ExitDecoder(proved, policy, abilities=abilities, **options)

    return make


class Written:
    """Leaves where it is written, whatever a token looks like.

    Args:
        exits: (row, position in the answer) -> depth; of all others L.
    """

    def __init__(self, exits: Mapping[tuple[int, int], int]) -> None:
        self._exits = exits
        self._positions: dict[int, int] = {}

    def start(self, rows: Sequence[int], positions: Sequence[int]) -> None:
        """As `Looks` says."""
        self._positions.update(zip(rows, positions, strict=True))

    def looks_at(self, depth: int) -> bool:
        """At every depth."""
        return True

    def leaves(self, depth, rows, hidden_RD, previous_RD):
        """As `Looks` says."""
        return np.array([self._exits.get((row, self._positions[row])) == depth for row in rows]), None


class Driven:
    """A batch, and every pass of a block: (block, rows, first token of the answer, number of tokens)."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.passes: list[tuple[int, tuple[int, ...], int, int]] = []
        self._rows = tuple(range(len(batch.ids)))
        self._position = 0
        batch.step(self._rows, 0, batch.width, looks=False)
        batch.on_pass = self._note

    def _note(self, block: int, train: Train) -> None:
        self.passes.append((block, train.rows, train.start - self.batch.width, train.stop - train.start))

    def go(self, rows: tuple[int, ...] | None = None) -> list[int]:
        """One more token of every row, or of some; its depths."""
        rows = self._rows if rows is None else rows
        slot = self.batch.width + self._position
        self.batch.ids[:, slot] = 7 + self._position
        self.batch.prober.start(rows, [self._position] * len(rows))
        _, depths = self.batch.step(rows, slot, slot + 1)
        self._position += 1
        return depths


@pytest.fixture
def drive(proved, abilities, prompts) -> Callable[..., Any]:
    """A batch behind its prompts, ready for tokens that leave where it is written."""

    @contextmanager
    def started(
        exits: Mapping[tuple[int, int], int], *, num_rows: int = 1, most_waiting: int = 99, **options: Any
    ) -> Iterator[Driven]:
        stack = Stack(proved.adapter)
        settings: dict[str, Any] = {"state": "deferred", "row_mode": "regroup"} | options
        with stack.installed(), torch.inference_mode():
            yield Driven(
                Batch(
                    stack,
                    abilities,
                    prompts[:num_rows],
                    room=20,
                    prober=Written(exits),
                    reader=Reader(proved, None),
                    most_waiting=most_waiting,
                    device=proved.model.device,
                    **settings,
                )
            )

    return started
