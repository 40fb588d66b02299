"""What a policy is shown while the model runs, and which policies are let in."""

import math
from typing import ClassVar

import numpy as np
import pytest
import torch

from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.probe import Reader, require_usable
from exitbench.errors import DecodeError, ExitbenchError
from exitbench.lens import Translators
from exitbench.models.load import prove
from exitbench.models.toy import toy_model
from exitbench.policies import POLICIES, Schedule
from exitbench.policies.confidence import TopProbability
from exitbench.policies.oracle import Stable
from exitbench.policies.policy import Calibration, ExitPolicy, Seen
from exitbench.signals.registry import SIGNALS
from exitbench.trace.record import Recorder, Stretch

NUM_NEW = 6


class Curious(ExitPolicy):
    """Looks at all there is, and never leaves."""

    name: ClassVar[str] = "curious"
    signals: ClassVar[tuple[str, ...]] = tuple(name for name in SIGNALS if SIGNALS.get(name).known_while_running)
    threshold: float | None = 1

    def scores(self, seen):
        """Nothing is good enough."""
        return np.zeros((len(seen.answer_position), len(seen.depths)))

    @classmethod
    def grid(cls, num_blocks):
        """Any threshold that there is."""
        return np.array([0.0, 1.0])


class Foresighted(Curious):
    """Looks at what the full model will say."""

    name: ClassVar[str] = "foresighted"
    signals: ClassVar[tuple[str, ...]] = ("top1_prob", "kl_final")


def _traced(proved, prompt, answer, lens=None):
    """Name -> (N, L + 1) signals of a trace of an answer."""
    recorder = Recorder(proved, lens, fast=False, also=("kl_prev",), memory=2**26, say=pytest.fail)
    return recorder.rows(
        [Stretch(ids=[*prompt, *answer.ids], first_row=len(prompt) - 1, turn=0, sample=0, category="chat")]
    ).signals


@pytest.fixture(scope="module")
def answered(proved, prompts, make_decoder):
    """A prompt, its greedy answer, and the signals of a trace of it."""
    (answer,) = make_decoder(Curious()).decode(prompts[:1], max_new_tokens=NUM_NEW, ends=()).answers
    return prompts[0], answer, _traced(proved, prompts[0], answer)


@pytest.fixture(scope="module")
def lens():
    """Another one at every depth."""
    generator = torch.Generator().manual_seed(0)
    weights, biases = (0.1 * torch.randn(4, *shape, 32, generator=generator) for shape in ((32,), ()))
    return Translators(weights=weights, biases=biases, origin=None, name="made up")


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(every=2), Schedule(depths=(1, 3))])
def test_signals_are_those_of_a_trace(answered, make_decoder, schedule):
    """A signal of another token or depth, computed from other logits, or kept from the token before."""
    prompt, answer, traced = answered
    (followed,) = make_decoder(Curious(schedule=schedule)).follow([prompt], [answer.ids])
    _same_signals(followed, traced, schedule)


def test_signals_through_a_lens_are_those_of_a_trace(proved, answered, lens, make_decoder):
    """A lens of another depth, for the block before above all; hidden states compared behind the lens."""
    prompt, answer, _ = answered
    (followed,) = make_decoder(Curious(), translators=lens).follow([prompt], [answer.ids])
    _same_signals(followed, _traced(proved, prompt, answer, lens), Schedule())


def _same_signals(followed, traced, schedule):
    for name in Curious.signals:
        seen = np.array([signals[name] for signals in followed.signals])
        expected = traced[name][:, schedule.at(4)]
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def _ready(name, answered, proved, schedule=None):
    """A registered policy at its loosest threshold, fitted where it has to be."""
    _, _, traced = answered
    policy = POLICIES.get(name)(**({} if schedule is None else {"schedule": schedule}))
    depths = policy.schedule.at(4)
    seen = Seen(
        depths=depths,
        num_blocks=4,
        answer_position=np.arange(NUM_NEW),
        answer_limit=NUM_NEW,
        signals={signal: traced[signal][:, depths] for signal in policy.signals},
    )
    agrees = traced["top1_id"][:, depths] == traced["top1_id"][:, -1:]
    share = np.linspace(0, 1, 5)
    policy = policy.fitted(
        Calibration(
            seen=seen, agrees=agrees, decided=share, rho=1 - share, probe_cost=0, weights_sha256=proved.weights_sha256
        )
    )
    return policy, seen


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_decodes_as_it_replays(name, answered, proved, make_decoder):
    """A policy that can be replayed and not decoded, or that leaves elsewhere; one more than fits the batch's form."""
    policy, seen = _ready(name, answered, proved)
    scores = np.unique(policy.scores(seen)[np.isfinite(policy.scores(seen))])
    grid = policy.grid(4)
    at = float(np.clip(scores[len(scores) // 2] - 1e-4, grid[0], grid[-1]))  # not within rounding of a score
    policy = policy.model_copy(update={"threshold": at})
    prompt, answer, traced = answered
    (followed,) = make_decoder(policy).follow([prompt], [answer.ids])
    assert followed.depths == tuple(policy.exits(seen))
    assert followed.ids == tuple(traced["top1_id"][np.arange(NUM_NEW), followed.depths])


def test_no_probe_where_none_is_planned(prompts, make_decoder):
    """Readouts paid for at depths that the schedule leaves out, or for a policy that never leaves."""
    limits = {"max_new_tokens": NUM_NEW, "ends": ()}
    never = TopProbability(threshold=1.0, schedule=Schedule(depths=(3,)))
    assert make_decoder(never).decode(prompts[:1], **limits).counts["probes"] == NUM_NEW
    silent = TopProbability(threshold=None)
    assert make_decoder(silent).decode(prompts[:1], **limits).counts["probes"] == 0


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Foresighted(), "looks at kl_final, which is not known before the full model has run"),
        (POLICIES.get("gate")(threshold=0.5), "is to be fitted first"),
        (TopProbability(threshold=0.5, schedule=Schedule(learned=2)), "or its probe depths learnt"),
        (TopProbability(threshold=0.5, fitted_on="b" * 64), "was fitted on a model with weights bbbbbbbbbbbb, this is"),
        (TopProbability(threshold=2), "has threshold 2, expected 0 to 1"),
        (TopProbability(threshold=0.5, schedule=Schedule(depths=(9,))), "9"),
    ],
)
def test_what_cannot_decide_is_refused_in_one_line(proved, policy, says):
    """A cheat, a policy without its parts, one of another model: each would decode, and wrongly."""
    with pytest.raises(ExitbenchError) as caught:
        require_usable(policy, proved)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_oracle_is_no_policy(proved, abilities):
    """A bound that is decoded as if it could be had."""
    with pytest.raises((AttributeError, TypeError, DecodeError)):
        ExitDecoder(proved, Stable(), abilities=abilities)


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "cohere", "opt", "bert"])
@torch.inference_mode()
def test_reader_reads_out_as_the_model_does(model_type):
    """A soft-cap, scale or projection left out at an exit; the head's own output cut or changed before it is kept."""
    proved = prove(model_type, toy_model(model_type, num_blocks=2))
    hidden = proved.adapter.capture(torch.tensor([[5, 6, 7, 8]]))[1]
    reader = Reader(proved, None)
    logits, raw = reader.logits(1, hidden)
    expected = proved.adapter.readout(hidden)
    assert torch.allclose(logits, expected, rtol=1e-5, atol=1e-5)
    again = proved.adapter.readout(hidden, head=lambda features: raw[:, None])  # as the loop hands it back
    assert torch.allclose(again, expected, rtol=1e-5, atol=1e-5)
    assert math.isfinite(float(raw.sum()))
