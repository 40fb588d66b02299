"""Decoding a workload side by side: what is written, what resumes, what is refused."""

import json

import pytest

from exitbench.api import load
from exitbench.config import DecodeOptions
from exitbench.decode import collect
from exitbench.decode.collect import decode_workload
from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.store import read_batches, read_manifest
from exitbench.errors import DecodeError, WorkloadError
from exitbench.models.toy import save_toy
from exitbench.policies.static import FixedDepth
from exitbench.workloads import Sample, Workload, load_workload

QUICK = DecodeOptions(max_new_tokens=4, batch=2)
POLICY = FixedDepth(threshold=2)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return load(str(save_toy(tmp_path_factory.mktemp("toy"))))


@pytest.fixture(scope="module")
def prompts():
    samples = [Sample(id=f"{i}", category="ab"[i % 2], turns=("how many?", "why?")[: 1 + i % 2]) for i in range(5)]
    return Workload(name="few", version="1", licence=None, kind="prompts", samples=tuple(samples))


def test_every_turn_is_there_once_with_both_answers(toy, prompts, tmp_path):
    """A turn that is missing or written twice; depths of other tokens; answers of one side under the other's name."""
    decode_workload(toy, prompts, POLICY, tmp_path, options=QUICK)
    turns = [turn for batch in read_batches(tmp_path) for turn in batch.turns]
    assert sorted((turn.sample_id, turn.turn) for turn in turns) == [
        *(("0", 0), ("1", 0), ("1", 1), ("2", 0), ("3", 0), ("3", 1), ("4", 0)),
    ]
    never = ExitDecoder(toy, FixedDepth())
    for turn in turns:
        assert len(turn.ids) == len(turn.depths) >= 1
        assert set(turn.depths) == {2}
        if turn.turn == 0:
            sample = next(sample for sample in prompts.samples if sample.id == turn.sample_id)
            prompt = toy.tokenizer.apply_chat_template(
                [{"role": "user", "content": sample.turns[0]}], add_generation_prompt=True, tokenize=False
            )
            ids = toy.tokenizer(prompt, add_special_tokens=False).input_ids
            assert never.decode([ids], max_new_tokens=4).answers[0].ids == turn.full_ids
    assert any(turn.ids != turn.full_ids for turn in turns)


def test_killed_run_goes_on_and_ends_with_the_same_answers(toy, prompts, tmp_path, monkeypatch):
    """A batch decoded twice or left out after a kill; half a line that hides those behind it."""
    decode_workload(toy, prompts, POLICY, tmp_path / "whole", options=QUICK)
    whole = [batch.turns for batch in read_batches(tmp_path / "whole")]

    def killed(folder, batch):
        with (folder / "batches.jsonl").open("a") as file:
            file.write(batch.model_dump_json() + "\n" if batch.number == 0 else '{"number": 1, "tur')
        if batch.number == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(collect, "write_batch", killed)
        with pytest.raises(KeyboardInterrupt):
            decode_workload(toy, prompts, POLICY, tmp_path / "cut", options=QUICK)
    assert [batch.number for batch in read_batches(tmp_path / "cut")] == [0]
    decode_workload(toy, prompts, POLICY, tmp_path / "cut", options=QUICK)
    assert [batch.turns for batch in read_batches(tmp_path / "cut")] == whole


def test_other_settings_do_not_mix(toy, prompts, tmp_path):
    """Answers of two policies in one folder."""
    decode_workload(toy, prompts, POLICY, tmp_path, options=QUICK)
    before = (tmp_path / "batches.jsonl").read_bytes()
    for policy, options in ((FixedDepth(threshold=1), QUICK), (POLICY, DecodeOptions(max_new_tokens=4, batch=1))):
        with pytest.raises(DecodeError, match="decoded otherwise"):
            decode_workload(toy, prompts, policy, tmp_path, options=options)
    assert (tmp_path / "batches.jsonl").read_bytes() == before


def test_manifest_says_what_was_decoded(toy, prompts, tmp_path):
    """A limit of drafts in the identity of answers that have none."""
    decode_workload(toy, prompts, POLICY, tmp_path, options=QUICK, command="exitbench decode")
    manifest = read_manifest(tmp_path)
    assert manifest.settings.policy == json.loads(json.dumps(POLICY.to_json()))
    assert (manifest.settings.draft, manifest.settings.most_waiting) == (None, 8)
    assert manifest.rho[0] == pytest.approx(1)
    assert manifest.num_blocks == toy.adapter.num_blocks
    assert manifest.command == "exitbench decode"


def test_prompts_alone_are_decoded(toy, tmp_path):
    """A text, which asks nothing, answered; a folder begun for a prompt that does not fit."""
    text = Workload(name="t", version="1", licence=None, kind="text", samples=load_workload("mini").samples[:1])
    with pytest.raises(WorkloadError, match="asks nothing"):
        decode_workload(toy, text, POLICY, tmp_path / "text", options=QUICK)
    long = Sample(id="long", category="a", turns=("x" * 10_000,))
    workload = Workload(name="l", version="1", licence=None, kind="prompts", samples=(long,))
    with pytest.raises(DecodeError, match="positions"):
        decode_workload(toy, workload, POLICY, tmp_path / "long", options=QUICK)
    assert not (tmp_path / "text").exists()
    assert not (tmp_path / "long").exists()
