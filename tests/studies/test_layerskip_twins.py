"""LayerSkip's recipe, and the studies that train and measure twins with and without it, at a tiny size."""

import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from exitbench.models.toy import toy_model

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import early_exit_training

    return early_exit_training


@pytest.fixture
def corpus(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import twin_corpus

    return twin_corpus


def test_dropout_grows_with_depth_and_with_time(recipes):
    """A rate that is even or linear over depth; a curriculum that never reaches the full rate, or starts with it."""
    recipe = recipes.Recipe(max_dropout=0.2)
    assert recipes.dropout_rates(3, recipe, 0.0) == pytest.approx([0, 0.2 * (2**0.5 - 1), 0.2])
    growing = recipes.Recipe(max_dropout=0.2, dropout_curriculum=True)
    assert recipes.dropout_rates(3, growing, 0.0) == [0, 0, 0]
    assert recipes.dropout_rates(3, growing, 0.5)[2] == pytest.approx(0.2 * (2**0.5 - 1))
    assert recipes.dropout_rates(3, growing, 1.0) == pytest.approx([0, 0.2 * (2**0.5 - 1), 0.2])


def test_exit_weights_by_hand(recipes):
    """Weights that fall with depth, that do not sum to 1, or that leave a depth without a loss."""
    recipe = recipes.Recipe(exit_scale=0.5)
    weights = recipes.exit_weights(3, recipe, [1, 2, 3])
    assert weights == pytest.approx({1: 0.5 / 5.5, 2: 1.5 / 5.5, 3: 3.5 / 5.5})
    assert recipes.exit_weights(3, recipe, [2, 3]) == pytest.approx({2: 1.5 / 5, 3: 3.5 / 5})
    assert recipes.exit_weights(3, recipes.PLAIN, [3]) == {3: 1}


def test_every_depth_has_its_turn(recipes):
    """A rotation that skips a depth, or in which the last depth has no loss."""
    recipe = recipes.Recipe(exit_scale=1.0, rotation=3)
    turns = [recipes.active_depths(8, recipe, step) for step in range(3)]
    assert sorted(depth for depths in turns for depth in depths) == [*range(1, 8), 8, 8, 8]
    assert all(depths[-1] == 8 for depths in turns)
    assert recipes.active_depths(8, recipes.PLAIN, 1) == [8]


def test_a_skipped_block_changes_nothing_of_its_row(recipes):
    """Dropping the wrong block or row, or rescaling what is kept."""
    model = toy_model()
    ids = torch.arange(3, 23).reshape(2, 10)
    kept = torch.ones(4, 2, dtype=torch.bool)
    kept[1, 0] = kept[3, 1] = False
    with recipes.watched_blocks(model, None) as whole:
        model(input_ids=ids, use_cache=False)
    with recipes.watched_blocks(model, kept) as states:
        model(input_ids=ids, use_cache=False)
    assert torch.equal(states[1][0], states[0][0])
    assert not torch.equal(states[1][1], states[0][1])
    assert torch.equal(states[3][1], states[2][1])
    assert torch.equal(states[2][1], whole[2][1])
    assert not torch.equal(states[2][0], whole[2][0])
    with recipes.watched_blocks(model, None) as again:
        model(input_ids=ids, use_cache=False)
    assert torch.equal(again[3], whole[3])


def test_loss_at_a_depth_is_that_of_the_model_cut_off_there(recipes):
    """A head of its own for shallower depths, a norm left out or applied twice, targets off by one."""
    ids = torch.arange(3, 23).reshape(2, 10)
    losses = recipes.losses_by_depth(toy_model(), ids, [1, 2, 3, 4])
    for depth, loss in losses.items():
        cut = toy_model()
        cut.model.layers = cut.model.layers[:depth]
        cut.config.num_hidden_layers = depth
        logits = cut(input_ids=ids).logits
        expected = functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_is_held_out_is_never_trained_on(corpus, tmp_path):
    """A question, or a part of a paragraph, on both sides; another corpus for the same seed."""
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(f"Paragraph {i}. " + f"Sentence {i} is here. " * 30 for i in range(40)))
    texts = corpus.real(file)
    judged = corpus.held_out(3, texts, per_kind=4)
    assert {document.kind for document in judged} == {*corpus.KINDS, "text"}
    trained = list(islice(corpus.mixed(3, texts), 3000))
    assert trained == list(islice(corpus.mixed(3, texts), 3000))
    assert sum(document.kind == "text" for document in trained) == 1000
    assert not {document.prompt for document in judged} & {document.prompt for document in trained}
    wholes = [{document.whole for document in side if document.whole} for side in (judged, trained)]
    assert all(wholes)
    assert not wholes[0] & wholes[1]


def run(script, *arguments, status=0):
    command = [sys.executable, str(STUDIES / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if status == 0 else done.stderr


@pytest.mark.slow  # a whole script, timings included
def test_twins_from_training_to_figures(tmp_path):
    """A recipe that is not applied, a twin that is no twin, training that does not train, figures without intervals.

    Drafts that change an answer, or that are never accepted.
    """
    trained = run("layerskip_twins.py", "--out", tmp_path, "--size", "tiny")["twins"]
    layerskip, plain = trained["layerskip"], trained["plain"]
    assert layerskip["held_out_loss_before"] == plain["held_out_loss_before"]
    for twin in (layerskip, plain):
        assert twin["held_out_loss"]["4"] < twin["held_out_loss_before"]["4"] - 1
    assert layerskip["held_out_loss"]["1"] < plain["held_out_loss"]["1"] - 0.2
    assert layerskip["applied"]["skipped_share_by_block"][0] == 0
    assert 0.05 < layerskip["applied"]["skipped_share_by_block"][3] < 0.15
    assert layerskip["applied"]["losses_by_depth"] == dict.fromkeys("1234", 60)
    assert plain["applied"] == {"skipped_share_by_block": [0] * 4, "losses_by_depth": {"1": 0, "2": 0, "3": 0, "4": 60}}

    assert "other settings" in run("layerskip_twins.py", "--out", tmp_path, "--size", "tiny", "--seed", "1", status=1)
    measured = run("layerskip_measure.py", tmp_path, "--prompts", "2", "--max-new-tokens", "8")
    ees = {name: twin["ees"] for name, twin in measured["twins"].items()}
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in ees.values())
    difference = measured["ees_difference"]
    assert difference["value"] == pytest.approx(ees["layerskip"]["value"] - ees["plain"]["value"])
    assert difference["n_prompts"] == ees["plain"]["n_prompts"] == 12

    sizes = ("--prompts", "2", "--thin", "6", "--max-new-tokens", "12", "--repeats", "2")
    for twin in run("layerskip_speed.py", tmp_path, *sizes)["twins"].values():
        assert (twin["differing_answers"], twin["compared_answers"], twin["n_prompts"]) == (0, 12, 6)
        assert 0 < twin["counts"]["accepted"] <= twin["counts"]["drafts"]
        assert twin["draft_depth"] in (1, 2)
        assert twin["speedup"]["min"] <= twin["speedup"]["median"] <= twin["speedup"]["max"]
