"""A training run on this machine: which folders are checkpoints, what they tell, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from exitbench.errors import ModelError
from exitbench.models.cache import lacking_tokenizer_file
from exitbench.models.revisions import checkpoints_of
from exitbench.models.source import resolve
from exitbench.models.toy import save_toy


@pytest.fixture
def run(tmp_path: Path, toy_folder: Path) -> Path:
    """A relative folder `run` of checkpoints step-0, step-8 and step-64, and of things that are none."""
    for step in (0, 8, 64):
        shutil.copytree(toy_folder, tmp_path / "run" / f"step-{step}")
    for other in ("logs", ".step-3", "step-latest"):
        (tmp_path / "run" / other).mkdir()
    (tmp_path / "run" / "step-5").write_text("no folder")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy(tmp_path_factory.mktemp("toy"))


def test_folders_by_their_names(run: Path, toy_folder: Path) -> None:
    """Bug: step-64 before step-8; logs taken for a checkpoint; a source that `load` cannot take."""
    found = checkpoints_of("run", revisions="all", base_folder=run.parent)
    assert [(c.name, c.step, c.tokens, c.revision, c.final) for c in found] == [
        ("step-0", 0, None, None, None),
        ("step-8", 8, None, None, None),
        ("step-64", 64, None, None, None),
    ]
    assert resolve(found[1].source).path == run / "step-8"
    assert checkpoints_of("run", revisions="log", base_folder=run.parent) == found
    ends = checkpoints_of(str(run), revisions="log", count=2, base_folder=Path("/nowhere"))
    assert ends == [found[0], found[2]]
    by_step = checkpoints_of("run", revisions="all", tokens_per_step=10, base_folder=run.parent)
    assert [c.tokens for c in by_step] == [0, 80, 640]


def test_folders_of_the_trainer_and_of_a_pattern(tmp_path: Path, toy_folder: Path) -> None:
    """Bug: what transformers' Trainer writes is not seen; a pattern by hand that does not replace the usual names."""
    shutil.copytree(toy_folder, tmp_path, dirs_exist_ok=True)  # the Trainer leaves the last state beside them
    for name in ("checkpoint-500", "checkpoint-1000", "it_7_of_2M"):
        shutil.copytree(toy_folder, tmp_path / name)
    found = checkpoints_of(".", revisions="all", base_folder=tmp_path)
    assert [(c.name, c.step) for c in found] == [("checkpoint-500", 500), ("checkpoint-1000", 1000)]
    found = checkpoints_of(".", revisions="all", pattern="it_{step}_of_{tokens}M", base_folder=tmp_path)
    assert [(c.name, c.step, c.tokens) for c in found] == [("it_7_of_2M", 7, 2_000_000)]


def test_checkpoint_file(run: Path, toy_folder: Path) -> None:
    """Bug: tokens that the trainer counted are not read, or a folder with another name is passed over."""
    shutil.copytree(toy_folder, run / "end")
    (run / "end" / "checkpoint.json").write_text(
        json.dumps({"step": 70, "tokens_seen": 7001, "loss": 1.5, "tags": {"seed": "0"}})
    )
    for step in (0, 8, 64):
        (run / f"step-{step}" / "checkpoint.json").write_text(json.dumps({"tokens_seen": step * 100}))
    found = checkpoints_of("run", revisions="all", tokens_per_step=3, base_folder=run.parent)
    assert [(c.name, c.step, c.tokens) for c in found] == [
        ("step-0", 0, 0),
        ("step-8", 8, 800),
        ("step-64", 64, 6400),
        ("end", 70, 7001),
    ]
    assert [dict(c.tags) for c in found] == [{}, {}, {}, {"seed": "0"}]
    assert checkpoints_of("run", revisions="last", base_folder=run.parent) == found[-1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"step": 9}', r"says step 9, but the folder's name 8"),
        ('{"tokens_seen": -1}', "tokens_seen -1; expected a whole number"),
        ('{"step": true}', "step True; expected"),
        ('{"tokens_seen": "12"}', "expected a whole number"),
        ('{"tags": {"seed": 0}}', "expected an object of names and texts"),
        ("[8]", "holds no object"),
        ("{", "cannot read"),
    ],
)
def test_checkpoint_file_that_is_wrong(content: str, message: str, run: Path) -> None:
    """Bug: a point at the wrong place of every curve."""
    (run / "step-8" / "checkpoint.json").write_text(content)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoints_of("run", revisions="all", base_folder=run.parent)
    assert "step-8" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_incomplete_checkpoint(name: str, run: Path) -> None:
    """Bug: a sweep that fails at its last checkpoint, hours later, and does not say what is missing."""
    (run / "step-64" / name).unlink()  # tokenizer_config.json stays: no tokenizer can be made of it alone
    with pytest.raises(ModelError, match=rf"step-64 lacks {name}") as caught:
        checkpoints_of("run", revisions="all", base_folder=run.parent)
    assert "\n" not in str(caught.value)
    assert len(checkpoints_of("run", revisions=["step-0", "step-8"], base_folder=run.parent)) == 2


@pytest.mark.parametrize(
    ("names", "lacking"),
    [
        ((), "tokenizer.json"),
        (("tokenizer_config.json", "special_tokens_map.json", "vocab.bin"), "tokenizer.json"),
        (("vocab.json",), "merges.txt"),
        (("merges.txt",), "vocab.json"),
        (("vocab.json", "merges.txt"), None),
        (("vocab.json", "source.spm"), None),
        (("spiece.model",), None),
        (("vocab.txt",), None),
        (("qwen.tiktoken",), None),
        (("tekken.json",), None),
        (("tokenizer.json", "vocab.json"), None),
    ],
)
def test_what_a_tokenizer_is_loaded_from(names: tuple[str, ...], lacking: str | None, tmp_path: Path) -> None:
    """Bug: half of a tokenizer passes for one, or one of an older kind is refused."""
    for name in names:
        (tmp_path / name).touch()
    assert lacking_tokenizer_file(tmp_path) == lacking


def test_missing_shard_of_the_index(run: Path) -> None:
    """Bug: a checkpoint whose second half was never written counts as complete."""
    weight_map = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (run / "step-8" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"step-8 lacks model-00002-of-00002\.safetensors"):
        checkpoints_of("run", revisions="log", base_folder=run.parent)


def test_links_that_leave(run: Path, toy_folder: Path) -> None:
    """Bug: weights from elsewhere measured under a checkpoint's name."""
    (run / "step-100").symlink_to(toy_folder, target_is_directory=True)
    with pytest.raises(ModelError, match=r"step-100 is a link that leads out of"):
        checkpoints_of("run", revisions="all", base_folder=run.parent)
    (run / "step-100").unlink()
    (run / "step-8" / "model.safetensors").unlink()
    (run / "step-8" / "model.safetensors").symlink_to(toy_folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"step-8/model\.safetensors is a link"):
        checkpoints_of("run", revisions="all", base_folder=run.parent)
    (run / "step-8" / "model.safetensors").unlink()
    (run / "step-8" / "model.safetensors").symlink_to("../step-0/model.safetensors")
    assert len(checkpoints_of("run", revisions="all", base_folder=run.parent)) == 3


def test_any_folder_by_its_name(run: Path, toy_folder: Path) -> None:
    """Bug: the last state of a run, which trainers call by another name, cannot be measured; or it is swept unasked."""
    shutil.copytree(toy_folder, run / "final")
    found = checkpoints_of("run", revisions=["final", "step-8"], base_folder=run.parent)
    assert [(c.name, c.step, c.tokens) for c in found] == [("final", None, None), ("step-8", 8, None)]
    assert len(checkpoints_of("run", revisions="all", base_folder=run.parent)) == 3
    with pytest.raises(ModelError, match=r"logs lacks config\.json"):
        checkpoints_of("run", revisions=["logs"], base_folder=run.parent)


def test_not_a_folder_of_checkpoints(run: Path, tmp_path: Path) -> None:
    """Bug: one model's folder swept, an empty sweep that ends at once and says nothing, a mistyped name."""
    with pytest.raises(ModelError, match="is one model, not a folder of checkpoints"):
        checkpoints_of("run/step-8", revisions="all", base_folder=tmp_path)
    with pytest.raises(ModelError, match="no folder named like step-N or checkpoint-N"):
        checkpoints_of("run/logs", revisions="all", base_folder=tmp_path)
    with pytest.raises(ModelError, match=r"no checkpoint 'step-46'; did you mean step-64"):
        checkpoints_of("run", revisions=["step-46"], base_folder=tmp_path)
    with pytest.raises(ModelError, match=r"no checkpoint '\.\./run/step-8'"):
        checkpoints_of("run", revisions=["../run/step-8"], base_folder=tmp_path)
