"""The contract of exit policies, as tests that any package can run over its own.

A package that registers a policy by the entry-point group `exitbench.policies` holds it to the contract with one line
in a test file; pytest then collects the class and runs it over every registered policy, the package's own included:

    from exitbench.testing import TestPolicyContract  # noqa: F401

What the checks are run on is made up: tokens with signals drawn from their declared ranges, with ties, with the ends
of the range and with undefined entries. A policy that passes may still be a poor one. Needs pytest.

Shapes: N tokens, K probe depths, L blocks.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pydantic
import pytest
from numpy.typing import NDArray

from exitbench.errors import ExitbenchError
from exitbench.policies import POLICIES, Calibration, ExitPolicy, Schedule, Seen, policy_from_json
from exitbench.signals import SIGNALS

__all__ = ["TestPolicyContract"]

NUM_BLOCKS = 7
NUM_TOKENS = 60
ANSWER_LIMIT = 16
SOURCE = re.compile(r"arXiv|doi|https?://|[Ss]ource:")
SCHEDULES = (Schedule(), Schedule(every=2), Schedule(depths=(3,)), Schedule(depths=()))

Floats = NDArray[np.float64]


class TestPolicyContract:
    """What every registered policy promises to replay, to decoding and to files."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One run of every check a policy; plug-ins are loaded now, not at import."""
        metafunc.parametrize("name", list(POLICIES))

    def test_is_known_by_its_own_name(self, name: str) -> None:
        """A result that names a policy under which nobody finds it."""
        kind = POLICIES.get(name)
        assert issubclass(kind, ExitPolicy), f"{kind} is no ExitPolicy"
        assert kind.name == name, f"registered as {name!r}, calls itself {kind.name!r}"

    def test_says_where_it_comes_from(self, name: str) -> None:
        """A criterion that nobody can look up; a docstring inherited from the base class."""
        text = POLICIES.get(name).__dict__.get("__doc__") or ""
        assert SOURCE.search(text), f"docstring of {name!r} names no source: an arXiv id, a doi, a link or 'Source: ..'"

    def test_looks_at_signals_of_a_running_model(self, name: str) -> None:
        """A policy that cheats in replay, or asks for what nobody records."""
        signals = POLICIES.get(name).signals
        assert len(set(signals)) == len(signals), f"declared twice: {signals}"
        for signal in signals:
            assert signal in SIGNALS, f"unknown signal {signal!r}"
            assert SIGNALS.get(signal).known_while_running, f"signal {signal!r} is known only when all blocks have run"

    def test_is_frozen_and_refuses_unknown_settings(self, name: str) -> None:
        """A policy that changes between two tokens; a mistyped setting that is ignored."""
        policy = POLICIES.get(name)()
        with pytest.raises(pydantic.ValidationError):
            policy.threshold = 0.5  # type: ignore[misc]
        with pytest.raises(pydantic.ValidationError):
            type(policy).model_validate({"no_such_setting": 1})

    def test_survives_json(self, name: str) -> None:
        """Something that scores are made of and that its file lacks."""
        policy = _ready(name)
        policy = policy.model_copy(update={"threshold": float(policy.grid(NUM_BLOCKS)[0])})
        data = json.loads(json.dumps(policy.to_json(), allow_nan=False))
        assert data["policy"] == name, f"the file names {data['policy']!r}"
        again = policy_from_json(data, num_blocks=NUM_BLOCKS)
        assert again == policy, "another policy comes back"
        np.testing.assert_array_equal(again.scores(_seen(policy)), policy.scores(_seen(policy)))

    def test_scores_every_token_at_every_probe(self, name: str) -> None:
        """Scores of another shape, also without probes or tokens; whole numbers that cannot hold NaN."""
        for policy in _scheduled(name):
            seen = _seen(policy)
            for part in (seen, seen.up_to(0), seen.up_to(1), seen.rows(np.arange(0))):
                scores = policy.scores(part)
                expected = (len(part.answer_position), len(part.depths))
                assert scores.shape == expected, f"scores are {scores.shape}, expected {expected}"
                assert scores.dtype == np.float64, f"scores are {scores.dtype}, expected float64"

    def test_is_deterministic_and_changes_nothing(self, name: str) -> None:
        """Scores that depend on a draw or on what was asked before; a policy that writes into what it is shown."""
        policy, seen = _ready(name), _seen(_ready(name))
        before = {signal: values.copy() for signal, values in seen.signals.items()}
        first = policy.scores(seen).copy()
        policy.scores(seen.rows(np.arange(3)))
        np.testing.assert_array_equal(policy.scores(seen), first)
        for signal, values in before.items():
            np.testing.assert_array_equal(seen.signals[signal], values, err_msg=f"{signal} was changed")

    def test_is_causal_in_depth(self, name: str) -> None:
        """A score that knows what a deeper depth will say."""
        for policy in _scheduled(name):
            seen, other = _seen(policy), _seen(policy, seed=1)
            scores = policy.scores(seen)
            for count in range(1, len(seen.depths) + 1):
                _same(policy.scores(seen.up_to(count)), scores[:, :count], f"with {count} probes made")
                changed = {
                    signal: np.concatenate([values[:, :count], other.signals[signal][:, count:]], axis=1)
                    for signal, values in seen.signals.items()
                }
                got = policy.scores(replace(seen, signals=changed))
                _same(got[:, :count], scores[:, :count], f"with other signals after {count} probes")

    def test_treats_tokens_alone(self, name: str) -> None:
        """A score that depends on which other tokens are in the batch."""
        policy = _ready(name)
        seen = _seen(policy)
        scores = policy.scores(seen)
        for keep in (np.arange(NUM_TOKENS)[::-1], np.arange(5, 9), np.arange(NUM_TOKENS) % 3 == 0, np.array([7])):
            _same(policy.scores(seen.rows(keep)), scores[keep], "among other tokens")

    def test_needs_no_more_than_it_declares(self, name: str) -> None:
        """State that decoding would not carry along: earlier probes, or the position, used and not declared."""
        policy = _ready(name)
        seen = _seen(policy)
        scores = policy.scores(seen)
        if "earlier probes" not in policy.state:
            for k in range(len(seen.depths)):
                present = {signal: values[:, k : k + 1] for signal, values in seen.signals.items()}
                alone = policy.scores(replace(seen, depths=seen.depths[k : k + 1], signals=present))
                _same(alone, scores[:, k : k + 1], 'without "earlier probes", which `state` does not name')
        if "answer position" not in policy.state:
            elsewhere = replace(seen, answer_position=seen.answer_position[::-1].copy(), answer_limit=999)
            _same(policy.scores(elsewhere), scores, 'at another "answer position", which `state` does not name')

    def test_leaves_at_a_probe_or_runs_through(self, name: str) -> None:
        """An exit at a depth where nothing was read out, or behind the last block."""
        for policy in _scheduled(name):
            allowed = [*policy.schedule.at(NUM_BLOCKS), NUM_BLOCKS]
            for calibrated in _along_grid(policy):
                exits = calibrated.exits(_seen(policy))
                assert exits.shape == (NUM_TOKENS,), f"exits are {exits.shape}"
                assert np.isin(exits, allowed).all(), f"exits {set(exits.tolist())}, expected among {allowed}"

    def test_a_stricter_threshold_never_leaves_earlier(self, name: str) -> None:
        """A score that falls where it should rise, or a grid from strict to loose."""
        for policy in _scheduled(name):
            exits = np.stack([calibrated.exits(_seen(policy)) for calibrated in _along_grid(policy)])
            assert np.all(np.diff(exits, axis=0) >= 0), "a stricter threshold left earlier"

    def test_replay_leaves_where_decoding_does(self, name: str) -> None:
        """Exits of all depths at once that are not those met depth by depth."""
        for policy in _scheduled(name):
            seen = _seen(policy)
            for calibrated in _along_grid(policy):
                walked = np.full(NUM_TOKENS, NUM_BLOCKS)
                running = np.arange(NUM_TOKENS)
                for count in range(1, len(seen.depths) + 1):
                    leaves = calibrated.leaves(seen.rows(running).up_to(count))
                    walked[running[leaves]] = seen.depths[count - 1]
                    running = running[~leaves]
                np.testing.assert_array_equal(calibrated.exits(seen), walked)

    def test_grid_rises(self, name: str) -> None:
        """A grid that is empty for some model, repeats itself, or holds what no file can."""
        for num_blocks in (1, 2, 3, NUM_BLOCKS, 126):
            grid = POLICIES.get(name).grid(num_blocks)
            assert grid.ndim == 1, f"grid is {grid.shape}"
            assert len(grid) > 0, f"no threshold for a model of {num_blocks} blocks"
            assert np.isfinite(grid).all(), "thresholds must be finite"
            assert np.all(np.diff(grid) > 0), "thresholds must rise from loose to strict"

    def test_without_a_threshold_never_leaves(self, name: str) -> None:
        """The baseline of every comparison leaving early."""
        policy = _ready(name).model_copy(update={"threshold": None})
        seen = _seen(policy)
        assert np.all(policy.exits(seen) == NUM_BLOCKS), "left without a threshold"
        assert not policy.leaves(seen).any(), "left without a threshold"

    def test_thresholds_off_the_grid_are_refused(self, name: str) -> None:
        """A threshold on another scale that means always, or never."""
        grid = POLICIES.get(name).grid(NUM_BLOCKS)
        for threshold in (grid[0] - 1, grid[-1] + 1):
            with pytest.raises(ExitbenchError, match=re.escape(f"expected {grid[0]:g} to {grid[-1]:g}")) as caught:
                _ready(name).model_copy(update={"threshold": float(threshold)}).checked(NUM_BLOCKS)
            assert "\n" not in str(caught.value), "more than one line"

    def test_learns_what_it_says_it_learns(self, name: str) -> None:
        """A trained policy used unfitted, or at depths it was not fitted at; a fit that nobody asked for."""
        policy = POLICIES.get(name)()
        fitted = policy.fitted(_calibration(policy))
        assert not fitted.learns, "still to be fitted when fitted"
        if not policy.is_trained:
            assert not policy.learns, "has something to fit, and is not `is_trained`"
            assert fitted == policy, "fitting changed a policy that is not `is_trained`"
            return
        assert fitted.fitted_on == _calibration(policy).weights_sha256, "does not say on which model it was fitted"
        seen = _seen(policy)
        with pytest.raises(ExitbenchError) as caught:
            policy.scores(seen)
        assert "\n" not in str(caught.value), "more than one line"
        few = _at(policy, Schedule(depths=(2, 4)))
        with pytest.raises(ExitbenchError):
            few.fitted(_calibration(few)).scores(seen)


def _at(policy: ExitPolicy, schedule: Schedule) -> ExitPolicy:
    return policy.model_copy(update={"schedule": schedule})


def _ready(name: str) -> ExitPolicy:
    """A policy as registered, fitted where it has to be."""
    policy = POLICIES.get(name)()
    return policy.fitted(_calibration(policy))


def _scheduled(name: str) -> Iterator[ExitPolicy]:
    """The same at several schedules, one without any probe among them."""
    for schedule in SCHEDULES:
        policy = _at(POLICIES.get(name)(), schedule)
        yield policy.fitted(_calibration(policy))


def _along_grid(policy: ExitPolicy) -> Iterator[ExitPolicy]:
    """The policy at about 20 thresholds, both ends among them, from loose to strict."""
    grid = policy.grid(NUM_BLOCKS)
    for place in np.unique(np.linspace(0, len(grid) - 1, 20).astype(int)):
        yield policy.model_copy(update={"threshold": float(grid[place])})


def _seen(policy: ExitPolicy, *, seed: int = 0, undefined: bool = True) -> Seen:
    """Tokens with made-up signals at a policy's probe depths.

    Args:
        policy: whose signals, and at whose depths.
        seed: of the values.
        undefined: with NaN among the signals that are no whole numbers.
    """
    rng = np.random.default_rng(seed)
    depths = policy.schedule.at(NUM_BLOCKS)
    shape = (NUM_TOKENS, len(depths))
    return Seen(
        depths=depths,
        num_blocks=NUM_BLOCKS,
        answer_position=np.arange(NUM_TOKENS) % ANSWER_LIMIT,
        answer_limit=ANSWER_LIMIT,
        signals={name: _values(name, shape, rng, undefined=undefined) for name in policy.signals},
    )


def _values(name: str, shape: tuple[int, int], rng: np.random.Generator, *, undefined: bool) -> NDArray[np.generic]:
    """Values of a signal: half of them few levels, so that there are ties, with both ends of its range."""
    signal = SIGNALS.get(name)
    low = signal.low if math.isfinite(signal.low) else -50.0
    high = signal.high if math.isfinite(signal.high) else 50.0
    if signal.dtype == "int32":
        return rng.integers(round(low), round(low) + 3, size=shape).astype(np.int32)
    levels = low + (high - low) * np.array([0, 0.1, 0.5, 0.9, 0.999, 1])
    values = np.where(rng.random(shape) < 0.5, rng.uniform(low, high, shape), rng.choice(levels, shape))
    if undefined:
        values[rng.random(shape) < 0.05] = np.nan
    return values.astype(np.float32)


def _calibration(policy: ExitPolicy) -> Calibration:
    """Made-up tokens to fit a policy on: it is right more often the deeper it looks, and always at the last probe."""
    seen = _seen(policy, seed=2, undefined=False)
    share = np.linspace(0, 1, NUM_BLOCKS + 1)
    agrees = np.random.default_rng(3).random((NUM_TOKENS, len(seen.depths))) < share[seen.depths]
    agrees[:, -1:] = True
    return Calibration(seen=seen, agrees=agrees, decided=share, rho=1 - share, probe_cost=0.01, weights_sha256="c" * 64)


def _same(got: Floats, expected: Floats, when: str) -> None:
    """Equal but for the order in which sums were made."""
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12, err_msg=f"other scores {when}")
