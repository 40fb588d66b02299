"""What a point is held to: refusals in one line, the rule of each procedure, and how many prompts are missing."""

import numpy as np
import pytest

from exitbench.errors import ExitbenchError
from exitbench.replay.crossfit import Folds, bootstrap_rule
from exitbench.replay.sweep import Totals
from exitbench.replay.targets import Target, missing_prompts, rule_for, targets
from exitbench.stats.bootstrap import Prompts


def folds_of(num_prompts):
    prompts = Prompts(row_prompt=np.arange(num_prompts), categories=("a",) * num_prompts)
    return Folds(prompts, draws=50, seed=np.random.SeedSequence(0))


def totals_of(disagreements, tokens=10):
    disagreements = np.asarray(disagreements, dtype=float)
    num_prompts = len(disagreements)
    return Totals(
        values=np.zeros((*disagreements.shape, 1)),
        disagreements=disagreements,
        tokens=np.full(num_prompts, float(tokens)),
    )


def test_every_bound_under_every_procedure():
    """A combination that is left out, or a delta that gets lost."""
    made = targets(eps=(0.01, 0.05), procedures=("bootstrap", "bonferroni"), risk="token", delta=0.2)
    assert [(t.procedure, t.eps) for t in made] == [
        *(("bootstrap", 0.01), ("bootstrap", 0.05)),
        *(("bonferroni", 0.01), ("bonferroni", 0.05)),
    ]
    assert {t.delta for t in made} == {0.2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"eps": (0.0,)}, "--eps is 0, expected a share above 0 and below 1"),
        ({"eps": (0.05, 1.0)}, "--eps is 1,"),
        ({"eps": (float("nan"),)}, "--eps is nan"),
        ({"delta": 0.0}, "--delta is 0"),
        ({"procedures": ("luck",)}, "--procedure is 'luck'"),
        ({"risk": "answer"}, "--risk answer needs a certificate"),
    ],
)
def test_nonsense_is_refused(changes, words):
    """A bound of 0 % that nothing meets, or a risk that the procedure silently ignores."""
    options = {"eps": (0.05,), "procedures": ("bootstrap",), "risk": "token", "delta": 0.1}
    with pytest.raises(ExitbenchError, match=words):
        targets(**(options | changes))


def test_rule_asks_each_target_for_itself():
    """Targets answered in another order, or all by the first one's procedure."""
    folds = folds_of(300)
    part = folds.parts(learns=False)[0]
    rng = np.random.default_rng(0)
    # Loose to strict: 30 %, 4 %, 0.1 %, 0 % of the tokens.
    disagreements = rng.binomial(10, [0.3, 0.04, 0.001, 0.0], size=(300, 4))
    totals = totals_of(disagreements).of(part.calibrate)
    held = [Target(eps=0.05), Target(eps=0.01), Target(eps=0.05, procedure="fixed-sequence")]
    chosen = rule_for(held)(totals, part)
    assert chosen[:2] == [bootstrap_rule(totals, part, eps) for eps in (0.05, 0.01)] == [1, 2]
    assert chosen[2] == 2  # a certificate needs more room than 4 % of 5 %


def test_certificate_stops_at_the_first_failure():
    """A threshold picked beyond one that failed because it passes by luck; index counted from the wrong end."""
    part = folds_of(300).parts(learns=False)[0]
    target = Target(eps=0.05, procedure="fixed-sequence")
    good, bad = np.zeros(300), np.full(300, 3.0)
    for columns, expected in (([good, bad, good], 2), ([bad, bad, good], 2), ([good] * 3, 0), ([bad] * 3, None)):
        totals = totals_of(np.stack(columns, axis=1)).of(part.calibrate)
        assert rule_for([target])(totals, part) == [expected]


def test_answer_risk_counts_answers():
    """One changed token in each answer, 1 % of the tokens and 100 % of the answers, certified at 5 %."""
    part = folds_of(300).parts(learns=False)[0]
    totals = totals_of(np.ones((300, 1)), tokens=100).of(part.calibrate)
    by_token, by_answer = (Target(eps=0.05, procedure="fixed-sequence", risk=risk) for risk in ("token", "answer"))
    assert rule_for([by_token, by_answer])(totals, part) == [0, None]


@pytest.mark.parametrize(
    ("num_prompts", "target", "learns", "words"),
    [
        (20, Target(eps=0.01), False, ""),
        (60, Target(eps=0.05, procedure="fixed-sequence"), False, ""),
        (50, Target(eps=0.05, procedure="fixed-sequence"), False, "at 5 %, delta 0.1 needs at least 45"),
        (60, Target(eps=0.05, procedure="fixed-sequence"), True, "got 36"),
        (280, Target(eps=0.01, procedure="fixed-sequence"), False, "needs at least 230 calibration prompts, got 224"),
        (20, Target(eps=0.05, procedure="conformal"), False, "a conformal certificate at 5 % needs at least"),
    ],
)
def test_missing_prompts(num_prompts, target, learns, words):
    """A certificate refused though there are enough prompts, counted with those it is judged on, or without number."""
    usable = np.ones(num_prompts, dtype=bool)
    said = missing_prompts(target, folds_of(num_prompts), learns=learns, num_thresholds=100, usable=usable)
    assert words in said
    assert bool(said) == bool(words)


def test_prompts_without_a_reference_do_not_count():
    """A promise on the task metric by prompts that have none."""
    target = Target(eps=0.05, procedure="fixed-sequence", risk="task")
    usable = np.arange(100) < 40
    assert "got " in missing_prompts(target, folds_of(100), learns=False, num_thresholds=9, usable=usable)
