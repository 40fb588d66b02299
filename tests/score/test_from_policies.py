"""What policies attain, on the card: against the replay's own parts, and what is null with which reason."""

import numpy as np
import pytest

from exitbench.policies.confidence import TopProbability
from exitbench.replay.columns import CostColumns
from exitbench.score import score
from exitbench.score.from_policies import EPS_GRID, figures_from_policies
from exitbench.stats.material import gather

DRAWS = 100


def noisy(make_trace, *, num_prompts=20, tokens=10, seed=0, **options):
    """Tokens whose confidence is right about how often they are wrong."""
    rng = np.random.default_rng(seed)
    prob = rng.beta(2.0, 0.15, size=(num_prompts * tokens, 4))
    wrong = (rng.random(prob.shape) > prob).astype(int)
    zeros = np.zeros((len(prob), 1), dtype=int)
    top1, prob = np.hstack([wrong, zeros]), np.hstack([prob, zeros + 1])
    return make_trace(top1, prob=prob, prompts=np.repeat(np.arange(num_prompts), tokens), **options)


def outcomes_of(trace):
    material = gather(trace, draws=DRAWS, seed=np.random.SeedSequence(0), level=0.95, pooled=False)
    return figures_from_policies(material, np.random.SeedSequence(1))


def test_thresholds_explain_the_net_figures(make_trace):
    """Net figures of other exits than the gross ones, FLOPs and bytes exchanged, or probes that are free."""
    # No fold's threshold lets the undecided half go, and every fold's lets the other half go.
    top1 = [[4, 4, 4, 4], [1, 2, 3, 4]] * 200
    prob = [[0.9] * 4, [0.1] * 4] * 200
    trace = make_trace(top1, prob=prob, prompts=np.repeat(np.arange(20), 20))
    got = outcomes_of(trace)
    saved = CostColumns(trace, batch=1, context=512, profile=None).of(TopProbability())
    for percent in ("1pct", "5pct"):
        # Half of the tokens leave at depth 1, the others never.
        assert got[f"aes_{percent}"].value == pytest.approx((saved[1, 0] + saved[3, 0]) / 2)
        assert got[f"nes_flops_copy_{percent}"].value == pytest.approx((saved[1, 1] + saved[3, 1]) / 2)
        assert got[f"nes_bytes_deferred_{percent}"].value == pytest.approx((saved[1, 2] + saved[3, 2]) / 2)


def test_certificates_need_their_prompts(make_trace):
    """A certificate from too few prompts, or none where there are enough."""
    few = outcomes_of(noisy(make_trace))
    assert few["aes_ltt_1pct"].endswith("delta 0.1 needs at least 230 calibration prompts, got 16")
    assert few["aes_ltt_5pct"].endswith("delta 0.1 needs at least 45 calibration prompts, got 16")
    more = outcomes_of(noisy(make_trace, num_prompts=60))
    assert isinstance(more["aes_ltt_1pct"], str)
    assert 0 <= more["aes_ltt_5pct"].value <= more["aes_5pct"].value


def test_unknown_costs_leave_the_gross_figures(make_trace):
    """One missing count that takes AES with it; FLOPs reckoned without it."""
    counted, old = (outcomes_of(noisy(make_trace, completed=completed)) for completed in (True, False))
    for eps in ("1pct", "5pct"):
        assert "traced before that was counted" in old[f"nes_flops_copy_{eps}"]
        assert old[f"nes_bytes_deferred_{eps}"] == counted[f"nes_bytes_deferred_{eps}"]
        assert old[f"aes_{eps}"] == counted[f"aes_{eps}"]
    assert old["lossless_projection"] == counted["lossless_projection"]


def test_few_prompts_have_bounds_and_reasons(make_trace):
    """Folds of one prompt, or an oracle that is gone with them."""
    got = outcomes_of(noisy(make_trace, num_prompts=9))
    values = {name for name, outcome in got.items() if not isinstance(outcome, str)}
    assert values == {"frontier", "aes_1pct_oracle", "aes_5pct_oracle"}
    assert {outcome for outcome in got.values() if isinstance(outcome, str)} == {
        "cross-fitting needs at least 10 prompts, got 9"
    }


def test_drafts_stand_beside_their_projection(make_trace):
    """A speedup without the drafts it comes from, or drafts in JSON that cannot be read back."""
    card = score(noisy(make_trace), draws=DRAWS)
    assert len(card.lossless_drafts) == 5
    assert card.lossless_projection.value >= 1 or any(card.lossless_drafts)
    again = type(card).from_json(card.to_json())
    assert again.lossless_drafts == card.lossless_drafts
    assert all(draft is None or isinstance(draft, tuple) for draft in again.lossless_drafts)


def test_names_say_the_bounds():
    """A figure at 5 % under the name of 1 %."""
    assert EPS_GRID == (0.01, 0.05)
