"""From records to rows: every figure once, under its own name, with its place and its reason."""

import numpy as np
import pytest

from exitbench.policies.confidence import DecayingThreshold, Margin, TopProbability
from exitbench.replay.assemble import ReplayOptions, replay
from exitbench.representation.record import Representation
from exitbench.score import score
from exitbench.stats.figure import Curve
from exitbench.study.figures import (
    POLICY_FIGURES,
    card_figures,
    no_policy_figures,
    replay_figures,
    representation_figures,
    untrained_figures,
)
from exitbench.study.untrained import Untrained


@pytest.fixture(scope="module")
def card(typical_trace):
    return score(typical_trace, draws=200)


def by_name(found):
    names = {}
    for one in found:
        names.setdefault(one.figure, []).append(one)
    return names


def assert_sound(found):
    """No two figures of one place; an interval, or a reason why there is none or not even a value."""
    found = list(found)
    places = [(f.figure, f.variant, f.target, f.depth, f.other_depth, f.at) for f in found]
    assert len(set(places)) == len(places)
    assert all((f.low is None) == (f.reason is not None) for f in found)
    assert all(f.value is None for f in found if f.reason and not f.reason.startswith("no interval: "))
    assert {f.status for f in found if f.value is None} <= {"missing"}
    return by_name(found)


def test_card(card):
    """A figure dropped, a curve at the wrong depth, a null without its reason, EAS at one alpha only."""
    names = assert_sound(card_figures(card))
    (ees,) = names["ees"]
    assert (ees.value, ees.low, ees.high) == (card.ees.value, card.ees.low, card.ees.high)
    assert (ees.n_tokens, ees.n_prompts, ees.unit) == (240, 12, "share")
    assert [f.depth for f in names["decided"]] == list(range(7))
    assert [f.value for f in names["decided"]] == card.decided.value
    assert [(f.at, f.depth) for f in names["batch"]] == [(1, None), (4, None), (16, None), (64, None)]
    assert names["max_skip"][0].reason == card.reasons["max_skip"]
    assert {f.unit for f in names["entropy"]} == {"nats"}
    at_half = {f.variant: f.value for f in names["eas"] if f.at == 0.5}
    assert at_half == {one.similarity: one.eas.value for one in card.eas}
    assert names["n_failed"][0].value == 0


def test_fast_card(make_trace):
    """Curves that a fast trace lacks missing from the rows, as if nobody had asked."""
    trace = make_trace(np.tile([1, 2, 3], (20, 1)), fast=True)
    names = assert_sound(card_figures(score(trace, draws=200)))
    assert [(f.status, f.depth) for f in names["entropy"]] == [("missing", None)]


def test_policies(typical_trace):
    """Policies that nobody asked for, or the figures of one under the name of another."""
    policies = [TopProbability(), *(DecayingThreshold(temperature=t) for t in (1.0, 9.0)), Margin()]
    record = replay(typical_trace, policies, options=ReplayOptions(draws=200))
    variants = [None, "calm-decay every a.json", "calm-decay every b.json", "margin every"]
    names = assert_sound(replay_figures(record, variants))
    assert set(names) == set(POLICY_FIGURES)
    assert {figure.variant for figure in names["policy_savings"]} == set(variants[1:])
    for variant, policy in zip(variants[1:], policies[1:], strict=True):
        alone = replay(typical_trace, [policy], options=ReplayOptions(draws=200))
        expected = {
            f"{p.procedure} {p.risk} {p.eps:g}": p.saved_blocks for p in alone.points if p.policy == policy.name
        }
        found = {f.target: f.value for f in names["policy_savings"] if f.variant == variant}
        assert found == {target: figure and figure.value for target, figure in expected.items()}
    missing = assert_sound(no_policy_figures("too few", variants))
    assert [f.variant for f in missing["policy_savings"]] == variants[1:]
    assert [f.reason for f in missing["policy_savings"]] == ["too few"] * 3


def test_few_prompts(make_trace):
    """An interval that is not there without a word."""
    trace = make_trace(np.tile([1, 2, 3], (4, 1)))
    names = assert_sound(card_figures(score(trace, draws=200)))
    for figure in ("ees", "decided", "eas"):
        assert names[figure][0].reason == "no interval: needs at least 10 prompts, got 4"


def test_representation():
    """Two depths swapped, a figure of one depth for a pair, or a draw of tokens passed off as all of them."""
    curve = Curve(axis="depth", at=[1, 2], value=[0.5, None], low=[0.4, None], high=[0.6, None])
    pairs = {"depth": [0, 1], "other_depth": [1, 2], "value": [0.1, 0.2], "low": [None, 0.1], "high": [None, 0.3]}
    curves = ("cosine_previous", "block_influence", "residual_norm", "norm_growth")
    counts = {"n_tokens": 900, "n_prompts": 30, "n_sequences": 40, "n_rank_tokens": 700}
    record = Representation.model_validate(
        counts
        | {"seed": 0, "draws": 2000, "hidden_size": 8, "minibatch_tokens": 50, "n_minibatches": 5}
        | dict.fromkeys(curves, curve)
        | {"effective_rank": Curve(axis="depth", at=[0], value=[3.0], low=[None], high=[None])}
        | {"no_interval": {"effective_rank": "lower rank", "cka": "few minibatches"}, "anisotropy": None}
        | {"cka": pairs | {"low": [None, None], "high": [None, None]}}
        | {"angular_distance": pairs, "reasons": {"anisotropy": "one document"}}
    )
    names = assert_sound(representation_figures(record))
    assert [(f.depth, f.value, f.reason) for f in names["residual_norm"]] == [
        (1, 0.5, None),
        (2, None, "it is not defined on these tokens"),
    ]
    assert [(f.depth, f.other_depth, f.value) for f in names["angular_distance"]] == [(0, 1, 0.1), (1, 2, 0.2)]
    assert names["angular_distance"][0].reason == "no interval: a resample of the prompts leaves it undefined"
    assert {f.reason for f in names["cka"]} == {"no interval: few minibatches"}
    assert [f.reason for f in names["effective_rank"]] == ["no interval: lower rank"]
    assert names["anisotropy"][0].reason == "one document"
    behind = {name: {f.n_tokens for f in found if f.value is not None} for name, found in names.items()}
    assert (behind["residual_norm"], behind["effective_rank"]) == ({900}, {700})
    assert (behind["angular_distance"], behind["cka"]) == ({40}, {250})


@pytest.mark.parametrize("ees", [[0.1, 0.2], None])
def test_untrained(ees):
    """The mean taken for a twin, or twins that could not be made left out without a word."""
    spread = (0.15, 0.1, 0.2) if ees else (None, None, None)
    values = dict(zip(("mean", "smallest", "largest"), spread, strict=True)) | {"ees": ees}
    reasons = {} if ees else dict.fromkeys(values, "quantised")
    record = Untrained(seeds=[4, 5], n_tokens=9, n_prompts=3, reasons=reasons, **values)
    names = assert_sound(untrained_figures(record))
    assert names["ees_untrained_mean"][0].value == spread[0]
    assert [(f.variant, f.value) for f in names.get("ees_untrained", [])] == ([("4", 0.1), ("5", 0.2)] if ees else [])
