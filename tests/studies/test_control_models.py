"""Control models: what is known of them beforehand holds."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from exitbench.models.toy import save_toy, toy_model

STUDIES = Path(__file__).parents[2] / "studies"
IDS = torch.arange(3, 23)[None]


@pytest.fixture
def controls(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import control_models

    return control_models


def test_an_identity_tail_changes_no_logit(controls):
    """Blocks that add something, or a cache that mixes them up, so that the control differs in more than its length."""
    model = toy_model()
    longer = controls.identity_tail(model)
    assert longer.config.num_hidden_layers == len(longer.model.layers) == 14
    assert [block.self_attn.layer_idx for block in longer.model.layers] == list(range(14))
    assert torch.equal(longer(input_ids=IDS).logits, model(input_ids=IDS).logits)
    assert torch.equal(longer(input_ids=IDS, use_cache=False).logits, model(input_ids=IDS).logits)
    assert model.config.num_hidden_layers == 4


def test_a_truncated_model_is_the_whole_one_cut_off(controls):
    """The wrong blocks kept, or another norm or head."""
    model = toy_model(num_blocks=6)
    shorter = controls.truncated(model)
    hidden = model(input_ids=IDS, output_hidden_states=True).hidden_states[4]
    assert torch.equal(shorter(input_ids=IDS).logits, model.lm_head(model.model.norm(hidden)))


def test_the_script_leaves_ordinary_checkpoints(controls, tmp_path, monkeypatch, capsys):
    """Checkpoints that do not load, or an untrained one with the trained weights."""
    source = save_toy(tmp_path / "toy")
    command = ["control_models.py", "--model", str(source), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    controls.main()
    assert '"identity-tail": 14' in capsys.readouterr().out
    trained = toy_model().state_dict()
    untrained = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "untrained").state_dict()
    assert untrained.keys() == trained.keys()
    assert not torch.equal(untrained["lm_head.weight"], trained["lm_head.weight"])


def test_controls_of_another_model_are_made_again(controls, tmp_path, monkeypatch, capsys):
    """Controls of the model of an earlier run, reported as those of the one that is asked for."""
    made = []
    for blocks in (4, 6, 6):
        source = save_toy(tmp_path / f"toy-{blocks}", num_blocks=blocks)
        command = ["control_models.py", "--model", str(source), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", command)
        controls.main()
        made.append((tmp_path / "out" / "truncated" / "model.safetensors").stat().st_mtime_ns)
        assert f'"truncated": {2 * blocks // 3}' in capsys.readouterr().out
    assert made[0] != made[1] == made[2]
