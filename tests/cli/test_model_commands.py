"""The commands that take a model and no prompts to answer: lens, check and profile."""

import json
from unittest.mock import patch

import pytest
from transformers import BertConfig, BertForMaskedLM

from command_line import assert_refused, exitbench, run_arguments
from exitbench.models.toy import byte_tokenizer
from exitbench.replay.profiles import load_profile


def lens_arguments(place):
    workload = ("--workload", "mini", "--tokens", "2000", "--learning-rate", "0.01")
    return ("lens", place / "toy", *workload, "--out", "lens.safetensors", "--quiet")


def test_lens_is_trained_and_read_through(place, tmp_path):
    """A lens that --readout cannot use, one that learns nothing, or results of it in the folder of the plain ones."""
    outcome = exitbench(*lens_arguments(place), "--json")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    trained = json.loads(outcome.out)
    assert trained["path"] == str(tmp_path / "lens.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["lens.safetensors"]
    assert trained["kl_logit"]["depth"] == [0, 1, 2, 3, 4]
    assert trained["kl_logit"]["value"][-1] == trained["kl_tuned"]["value"][-1] == 0
    assert sum(trained["kl_tuned"]["value"]) < sum(trained["kl_logit"]["value"])
    assert trained["n_documents"] == 17
    assert all(
        low < high for low, high in zip(trained["kl_tuned"]["low"][:-1], trained["kl_tuned"]["high"], strict=False)
    )
    run = exitbench(*run_arguments(place), "--readout", "tuned:lens.safetensors", "--json")
    assert run.code == 0, run
    card = json.loads(run.out)
    assert card["settings"]["readout"] == trained["name"]
    assert card["ees"] != json.loads((place / "finished/score.json").read_text())["ees"]
    (folder,) = (tmp_path / "exitbench-out").iterdir()
    assert "tuned" in folder.name


def test_lens_tells_people_what_it_learnt(place, tmp_path):
    """A table without a depth, or a file that nobody finds; one that is trained over."""
    outcome = exitbench(*lens_arguments(place))
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert f"lens: {tmp_path / 'lens.safetensors'}" in outcome.out
    assert "nats" in outcome.out
    before = (tmp_path / "lens.safetensors").read_bytes()
    assert_refused(exitbench(*lens_arguments(place)), "lens.safetensors exists", "--out")
    assert (tmp_path / "lens.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tokens", "0"), ("--tokens is 0",)),
        (("--learning-rate", "0"), ("--learning-rate is 0.0", "0.001")),
        (("--learning-rate", "nan"), ("--learning-rate is nan",)),
        (("--out", "lens.pt"), ("lens.pt", ".safetensors")),
        (("--workload", "minni"), ("unknown workload 'minni'",)),
    ],
)
def test_wrong_option_of_a_lens_is_refused(place, tmp_path, options, words):
    """A mistake found out after the training, or a file left behind."""
    assert_refused(exitbench(*lens_arguments(place), *options), *words)
    assert list(tmp_path.iterdir()) == []


def test_check_shows_the_proof(place):
    """A check that hides a failure behind exit code 0, or prints another form than documented."""
    outcome = exitbench("check", place / "toy", "--json", "--quiet")
    document = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert document["paths"]["blocks"] == [f"model.layers.{i}" for i in range(4)]
    assert [row["name"] for row in document["checks"]] == ["readout", "chain", "cache", "padding"]
    assert all(row["passed"] and row["error"] <= row["tolerance"] for row in document["checks"])
    assert "model.layers" in exitbench("check", place / "toy", "--quiet").out


def test_check_of_a_broken_view_fails(place):
    """A failed proof that exits with 0."""
    with patch("exitbench.models.validate.SLACK", -1.0):
        assert exitbench("check", place / "toy", "--quiet").code == 1
        refused = exitbench(*run_arguments(place), "--out", place / "never")
    assert_refused(refused, "LlamaForCausalLM is refused", "exitbench check")
    assert not (place / "never").exists()


def test_check_shows_the_anatomy(place):
    """Blocks whose kinds and costs are counted and not shown."""
    document = json.loads(exitbench("check", place / "toy", "--json", "--quiet").out)
    assert [block["mixers"] for block in document["shape"]["blocks"]] == [["full attention"]] * 4
    shown = exitbench("check", place / "toy", "--quiet").out
    assert "1-4" in shown
    assert "full attention" in shown


def test_check_all_prints_the_matrix(monkeypatch):
    """A type that fails for no known reason behind exit code 0, or rows in another form than documented."""
    monkeypatch.setattr("exitbench.matrix.causal_model_types", lambda: ("llama", "xlnet"))
    outcome = exitbench("check", "--all", "--json", "--quiet")
    passed, failed = json.loads(outcome.out)
    assert (outcome.code, outcome.err) == (0, "")
    assert (passed["model_type"], passed["passed"], passed["reason"]) == ("llama", True, None)
    assert (passed["decode"], passed["lossless"], passed["decode_reason"]) == (True, True, None)
    assert (failed["model_type"], failed["passed"], failed["decode"]) == ("xlnet", False, None)
    assert "sees tokens to its right" in failed["reason"]
    assert "1 of 2 types pass, 1 can be decoded" in exitbench("check", "--all", "--quiet").out
    monkeypatch.setattr("exitbench.matrix.UNSUPPORTED", {})
    assert exitbench("check", "--all", "--quiet").code == 1


def test_encoder_is_refused(tmp_path):
    """A BERT scored as if it generated from left to right."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=259, **sizes)).save_pretrained(tmp_path / "bert")
    byte_tokenizer().save_pretrained(tmp_path / "bert")
    assert_refused(exitbench("check", tmp_path / "bert", "--quiet"), "not a causal language model")


QUICK_PROFILE = ("--context", "9", "--batches", "1,2", "--repeats", "1", "--quiet")


def test_profile_leaves_a_file_that_projects(place, tmp_path):
    """A profile printed and not kept, or kept as something else than what is printed."""
    file = tmp_path / "profile.json"
    outcome = exitbench("profile", place / "toy", *QUICK_PROFILE, "--out", file, "--json")
    assert outcome.code == 0, outcome
    printed = json.loads(outcome.out)
    assert printed == json.loads(file.read_text())
    assert printed["source"].startswith("exitbench profile ")
    assert load_profile(str(file)).context == 9


def test_profile_names_its_file(place, tmp_path, monkeypatch):
    """A profile that nobody finds."""
    monkeypatch.chdir(tmp_path)
    outcome = exitbench("profile", place / "toy", *QUICK_PROFILE)
    assert (tmp_path / "exitbench-out" / "profile-toy.json").is_file()
    assert "4 blocks" in outcome.out
    assert "exitbench-out/profile-toy.json" in outcome.out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--batches", "1,two"), "--batches is '1,two', expected whole numbers with commas between"),
        (("--batches", "4,2"), "--batches is '4,2', expected rising numbers from 1"),
        (("--context", "1"), "--context is 1, expected at least 2"),
        (("--repeats", "0"), "--repeats is 0"),
        (("--context", "5000"), "toy knows 2048"),
    ],
)
def test_profile_of_what_cannot_be_timed(place, tmp_path, options, word):
    """A traceback after minutes of loading, or a file without times."""
    file = tmp_path / "profile.json"
    assert_refused(exitbench("profile", place / "toy", *options, "--quiet", "--out", file), word)
    assert not file.exists()
