"""How prompts are dealt."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exitbench.replay.folds import NUM_FOLDS, deal_folds


@given(st.lists(st.sampled_from("abc"), min_size=10, max_size=40), st.integers(0, 5))
def test_folds_are_even_overall_and_in_every_category(categories, seed):
    """Small categories all dealt into fold 0, or a fold left empty."""
    folds = deal_folds(tuple(categories), np.random.default_rng(seed))
    for members in (np.ones(len(folds), dtype=bool), *(np.asarray(categories) == name for name in "abc")):
        sizes = np.bincount(folds[members], minlength=NUM_FOLDS)
        assert sizes.max() - sizes.min() <= 1
