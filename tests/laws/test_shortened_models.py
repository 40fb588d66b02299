"""Depth d means the model cut after d blocks: scores from models that really were cut, by a naive computation."""

import copy

import numpy as np
import pytest
import torch

from exitbench.models.adapter import ModelAdapter
from exitbench.models.toy import toy_model
from exitbench.trace.decided import first_match_depths
from families import DENSE


def _top1_of_shortened(model, depth, trace):
    """(N,) most probable next tokens by the model with its first `depth` blocks alone."""
    shortened = copy.deepcopy(model)
    path, _, name = ModelAdapter(model).paths.blocks[0].removesuffix(".0").rpartition(".")
    blocks = getattr(shortened.get_submodule(path), name)
    setattr(shortened.get_submodule(path), name, torch.nn.ModuleList(list(blocks)[:depth]))
    shortened.config.num_hidden_layers = depth
    predicted = []
    for index in range(len(trace.samples)):
        ids = torch.as_tensor(trace.input_id[trace.sample_index == index], dtype=torch.long)
        predicted.append(shortened(input_ids=ids[None], use_cache=False).logits[0].argmax(-1).numpy())
    return np.concatenate(predicted)


@pytest.mark.parametrize("family", DENSE)
def test_ees_of_models_really_cut(family, toy_trace, card_of, naive_ees):
    """Hooks at the wrong module, a readout of another depth, or a score that is not its definition."""
    trace = toy_trace(family)
    model = toy_model(family)
    top1_id = np.stack([_top1_of_shortened(model, depth, trace) for depth in range(trace.num_blocks + 1)], axis=1)
    assert np.array_equal(trace.signals["top1_id"], top1_id)
    card, alike = card_of(trace), [1 / trace.num_blocks] * trace.num_blocks
    assert card.ees.value == pytest.approx(naive_ees(top1_id, trace.manifest.shape.block_costs), abs=1e-12)
    assert card.ees_blocks.value == pytest.approx(naive_ees(top1_id, alike), abs=1e-12)
    assert 0 < card.ees.value < 1


@pytest.mark.parametrize("family", DENSE)
def test_first_match_is_an_upper_bound(family, toy_trace, card_of):
    """The two readings of "agrees" swapped. Blocks do change their minds here, so the bound is strict."""
    trace = toy_trace(family)
    top1_id = trace.signals["top1_id"]
    assert np.all(first_match_depths(top1_id) <= trace.decision_depth)
    card = card_of(trace)
    assert card.ees_first_match.value > card.ees.value


@pytest.mark.parametrize("family", DENSE)
def test_no_faithful_threshold_beats_first_match(family, toy_trace, card_of):
    """Savings counted for exits that cannot have happened."""
    card = card_of(toy_trace(family))
    savings, disagreement = (np.array(curve.value) for curve in (card.frontier.savings, card.frontier.disagreement))
    assert np.any(disagreement == 0)
    assert np.any(disagreement > 0)
    assert savings[disagreement == 0].max() <= card.ees_first_match.value + 1e-12
