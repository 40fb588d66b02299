"""The zoo: its text, its families and its training loop, at a tiny size."""

import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.fixture
def zoo(monkeypatch):
    """The study's modules, by name."""
    monkeypatch.syspath_prepend(str(STUDIES))
    import zoo_families
    import zoo_text
    import zoo_training

    return {"families": zoo_families, "text": zoo_text, "training": zoo_training}


@pytest.fixture
def found(tmp_path, zoo):
    """A small machine: 40 sources and 40 read-me files, and what must not be taken for text."""
    library, documentation = tmp_path / "lib", tmp_path / "doc"
    for index in range(40):
        source = library / f"module{index}.py"
        source.parent.mkdir(exist_ok=True)
        source.write_text("\n".join(f"value_{index}_{line} = {line} * {index}" for line in range(60)))
        readme = documentation / f"package{index}" / "README.gz"
        readme.parent.mkdir(parents=True)
        readme.write_bytes(gzip.compress(f"Package {index} does {index} things. ".encode() * 40))
    (library / "test").mkdir()
    (library / "test" / "test_module.py").write_text("x = 1\n" * 400)
    (library / "link.py").symlink_to(library / "module0.py")
    (documentation / "package0" / "NEWS").write_bytes(b"\xff\xfe" * 400)
    (documentation / "package0" / "README.txt").write_text("short")
    return zoo["text"].found_text(standard_library=library, documentation=documentation)


@pytest.fixture
def text(tmp_path, zoo, found):
    return zoo["text"].prepare(
        tmp_path / "zoo" / "text", found, source="here", vocab_size=300, row_tokens=16, held_out=12
    )


def member(zoo, tmp_path, family, **changes):
    preset = replace(zoo["families"].PRESETS["tiny"], vocab_size=300, row_tokens=16, rows=2, steps=6, **changes)
    folder = tmp_path / "zoo"
    return zoo["training"].Member(family_name=family, seed=1, preset=preset, zoo=folder, device="cpu")


def test_what_is_found_is_text(found):
    """Tests, links, binary files or stubs among the text; one document twice."""
    assert len(found) == 80
    assert {document.category for document in found} == {"code", "prose"}
    assert all(len(document.text) >= 400 for document in found)


def test_one_package_does_not_fill_the_text(tmp_path, zoo):
    """Hundreds of release notes of one package, which resemble one another."""
    for index in range(100):
        note = tmp_path / "doc" / "git" / f"{index}.txt"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(f"Release {index}. " * 60)
    (tmp_path / "lib").mkdir()
    assert len(zoo["text"].found_text(standard_library=tmp_path / "lib", documentation=tmp_path / "doc")) == 30


def test_held_out_documents_are_never_trained_on(found, text):
    """A split by order or by seed, under which another run trains on what this one is judged on."""
    held = [document for document in found if document.is_held_out]
    assert 0 < len(held) < len(found) / 2
    learnt = text.tokenizer.decode(text.stream.tolist())
    assert all(document.text not in learnt for document in held)
    assert all(document.text in learnt for document in found if not document.is_held_out)
    judged = [json.loads(line) for line in (text.folder / "held_out.jsonl").read_text().splitlines()]
    assert {sample["id"] for sample in judged} <= {document.id for document in held}


def test_every_row_once_before_any_comes_again(text):
    """Rows drawn with replacement, or an order that depends on how often a training was resumed."""
    in_order = [text.stream[at : at + 17].tolist() for at in range(0, len(text.stream) - 16, 16)]
    epoch = [text.batch(3, step, 1)[0].tolist() for step in range(len(in_order))]
    assert epoch != in_order
    assert sorted(epoch) == sorted(in_order)
    across = text.batch(3, len(in_order) // 5, 5).tolist()  # the end of this epoch, the beginning of the next
    assert across[: len(in_order) % 5] == epoch[len(in_order) // 5 * 5 :]
    assert np.array_equal(text.batch(3, 7, 5), text.batch(3, 7, 5))
    assert not np.array_equal(text.batch(3, 7, 5), text.batch(4, 7, 5))


def test_the_unigram_loss_by_hand(text):
    """Frequencies of the held-out text itself, or a token that training never saw."""
    counts = np.ones(len(text.tokenizer))
    for token in text.stream.tolist():
        counts[token] += 1
    targets = text.held_out_rows[:, 1:].ravel()
    by_hand = sum(-np.log(counts[token] / counts.sum()) for token in targets) / len(targets)
    assert text.unigram_loss() == pytest.approx(by_hand)


def test_another_text_is_refused(tmp_path, zoo, found, text):
    """Models of one zoo that were trained on different texts, since a package was installed meanwhile."""
    with pytest.raises(ValueError, match="another text"):
        zoo["text"].prepare(text.folder, found[:-1], source="here", vocab_size=300, row_tokens=16, held_out=12)


def test_matched_families_have_as_many_active_parameters(zoo):
    """A comparison of kinds, recipes or depths that is one of sizes."""
    preset = zoo["families"].PRESETS["gpu"]

    def active(name):
        family = zoo["families"].FAMILIES[name]
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(family.config(preset.sizes(family, 0)))
        blocks = max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)
        sizes = ((n, p.numel()) for n, p in blocks.named_parameters())
        return sum(size / 4 if ".experts." in name else size for name, size in sizes)

    dense = active("dense")
    for name in ("exit", "moe", "mamba2", "hybrid", "gpt2", "current", "deep", "shallow"):
        assert active(name) == pytest.approx(dense, rel=0.05), name
    assert active("small") == pytest.approx(dense / 4, rel=0.05)


def test_checkpoints_are_log_spaced(zoo):
    """Too few of them for a sweep, or none of the untrained and of the trained model."""
    steps = zoo["training"].checkpoint_steps(1200)
    assert steps == [0, 9, 19, 38, 75, 150, 300, 600, 1200]
    assert zoo["training"].checkpoint_steps(1) == [0, 1]


def test_the_learning_rate_of_each_schedule(zoo, tmp_path, text):
    """A schedule that starts at full rate, never falls, or falls from the first step where it should be constant."""
    cosine, annealed = member(zoo, tmp_path, "dense"), member(zoo, tmp_path, "current")
    cosine, annealed = (replace(m, preset=replace(m.preset, steps=1200)) for m in (cosine, annealed))
    assert cosine.pace(0) == pytest.approx(3e-3 / 100)
    assert cosine.pace(99) == pytest.approx(3e-3)
    assert cosine.pace(1199) == pytest.approx(3e-4, rel=1e-3)
    assert annealed.steps == 2400
    assert annealed.pace(1900) == pytest.approx(3e-3)
    assert annealed.pace(2160) == pytest.approx(1.5e-3)


@pytest.mark.parametrize("family", ["exit", "gpt2", "moe"])
def test_a_killed_training_ends_with_the_same_weights(zoo, tmp_path, text, monkeypatch, family):
    """Dropout, order of rows, learning rate or moments of the optimiser that start anew."""
    whole = member(zoo, tmp_path, family)
    zoo["training"].train(whole)
    last = whole.folder / f"step-{whole.steps}"
    expected = load_file(last / "model.safetensors")
    (whole.folder).rename(tmp_path / "whole")
    leave, calls = zoo["training"]._leave, []

    def killed(member, model, optimiser, step):
        leave(member, model, optimiser, step)
        calls.append(step)
        if step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(zoo["training"], "_leave", killed)
    with pytest.raises(KeyboardInterrupt):
        zoo["training"].train(member(zoo, tmp_path, family))
    (whole.folder / ".step-6.unfinished").mkdir()
    zoo["training"].train(member(zoo, tmp_path, family))
    assert calls == [0, 1, 2, 3, 6], "it started over"
    found = load_file(last / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not list(whole.folder.rglob("optimiser*"))


def test_a_training_of_another_preset_is_refused(zoo, tmp_path, text, monkeypatch):
    """A folder that was trained into before: a small model among large ones, a learning rate that changes half way."""
    leave = zoo["training"]._leave

    def killed(member, model, optimiser, step):
        leave(member, model, optimiser, step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(zoo["training"], "_leave", killed)
        with pytest.raises(KeyboardInterrupt):
            zoo["training"].train(member(zoo, tmp_path, "dense"))
    longer = member(zoo, tmp_path, "dense")
    longer = replace(longer, preset=replace(longer.preset, steps=12))
    with pytest.raises(ValueError, match=r"dense-1 was trained with steps 6 \(asked for: 12\); train into another"):
        zoo["training"].train(longer)
    record = zoo["training"].train(member(zoo, tmp_path, "dense"))
    assert zoo["training"].train(member(zoo, tmp_path, "dense", seeds=3, families=("dense",))) == record
    faster = member(zoo, tmp_path, "dense", learning_rate=0.5)
    tuned = member(zoo, tmp_path, "instruct", learning_rate=0.5)
    for changed in (faster, tuned):
        with pytest.raises(ValueError, match=r"dense-1 was trained with learning_rate 0\.003 \(asked for: 0\.5\)"):
            zoo["training"].train(changed)


def test_tuning_without_a_base(zoo, tmp_path, text):
    """A traceback about files of the hub."""
    with pytest.raises(ValueError, match=r"dense-1 has no training\.json; train dense first"):
        zoo["training"].train(member(zoo, tmp_path, "instruct"))


def test_tuning_learns_answers_only(zoo, tmp_path, text):
    """Questions among the targets, so that a tuned model learns to ask; no text, so that it forgets all it knew; tokens
    of tuning alone, so that a tuned model seems to have seen less than its base.
    """
    zoo["training"].train(member(zoo, tmp_path, "dense"))
    tuned = member(zoo, tmp_path, "instruct")
    rows, learnt = replace(tuned, preset=replace(tuned.preset, rows=16)).batch(0)
    assert rows.shape == learnt.shape == (16, 17)
    assert torch.equal(rows[learnt != -100], learnt[learnt != -100])
    assert 0.1 < (learnt[:8] == -100).float().mean() < 0.9
    assert np.array_equal(learnt[8:], text.batch(1, 2 * 6, 8))
    start = tuned.new_model().state_dict()
    base = load_file(tuned.base.folder / "step-6" / "model.safetensors")
    assert all(torch.equal(start[name], base[name]) for name in base)
    assert (tuned.tokens_seen(0), tuned.tokens_seen(tuned.steps)) == (6 * 2 * 16, (6 + 1) * 2 * 16)


@pytest.mark.slow
def test_the_script_trains_a_zoo_and_goes_on_with_it(tmp_path):
    """A script that does not end, leaves no record, or trains again what is there."""
    command = [
        sys.executable,
        str(STUDIES / "zoo_train.py"),
        "--preset",
        "tiny",
        "--out",
        str(tmp_path),
        "--steps",
        "4",
    ]
    summaries = []
    for families in (["dense", "moe"], ["dense", "moe", "instruct"]):
        run = subprocess.run(
            [*command, "--families", *families], capture_output=True, text=True, check=True, timeout=300
        )
        summaries.append(json.loads(run.stdout.splitlines()[-1]))
    first, second = ({m["member"]: m for m in summary["members"]} for summary in summaries)
    assert list(second) == ["dense-0", "moe-0", "instruct-0"]
    assert second["dense-0"]["seconds"] < 1
    assert second["dense-0"]["held_out_loss"] == first["dense-0"]["held_out_loss"]
    assert second["dense-0"]["text"]["train_tokens"] > 100_000
    last = json.loads((tmp_path / "instruct-0" / "step-1" / "checkpoint.json").read_text())
    assert (last["step"], last["tokens_seen"]) == (1, (4 + 1) * 4 * 32)
    assert float(last["tags"]["loss_below_unigram"]) == pytest.approx(
        second["instruct-0"]["loss_below_unigram"], abs=1e-4
    )
