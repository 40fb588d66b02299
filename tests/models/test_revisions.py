"""Checkpoints of a repository on the hub, which is a listing here, and of a repository in its cache."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors

from exitbench.errors import ModelError
from exitbench.models import revisions as module
from exitbench.models.catalogue import Catalogue, ModelFacts
from exitbench.models.revisions import checkpoints_of
from exitbench.models.source import resolve
from exitbench.models.toy import save_toy

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PYTHIA = ["main", "step0", *(f"step{2**n}" for n in range(10)), *(f"step{n}000" for n in range(1, 144))]
List = Callable[..., None]


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List:
    """Let the hub list these branches and tags for any repository, with nothing in its cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))

    def publish(branches: list[str], tags: list[str] | None = None) -> None:
        class Api:
            def list_repo_refs(self, repo_id: str) -> SimpleNamespace:
                def refs(names: list[str]) -> list[SimpleNamespace]:
                    return [SimpleNamespace(name=name) for name in names]

                return SimpleNamespace(branches=refs(branches), tags=refs(tags or []))

        monkeypatch.setattr(huggingface_hub, "HfApi", Api)

    return publish


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with two revisions of `org/toy` of which one has lost its files, and no network."""
    repository = tmp_path / "hub" / "models--org--toy"
    save_toy(repository / "snapshots" / COMMIT)
    (repository / "refs" / "runs").mkdir(parents=True)
    (repository / "refs" / "step8").write_text(COMMIT)
    (repository / "refs" / "runs" / "b").write_text(COMMIT)
    (repository / "refs" / "step9").write_text("f" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_evenly_in_the_logarithm(listing: List, tmp_path: Path) -> None:
    """Bug: the branch main among the checkpoints, tokens unknown where the catalogue says what a step is."""
    listing(PYTHIA)
    found = checkpoints_of("EleutherAI/pythia-160m", revisions="log", base_folder=tmp_path)
    assert [c.name for c in found] == [
        "step0", "step1", "step8", "step64", "step512", "step3000", "step20000", "step143000",
    ]  # fmt: skip
    assert {c.source for c in found} == {c.final for c in found} == {"EleutherAI/pythia-160m"}
    assert all(c.revision == c.name and c.tokens == (c.step or 0) * 2_097_152 for c in found)
    assert found[-1].tokens == 299_892_736_000
    assert checkpoints_of("EleutherAI/pythia-160m", revisions="log", count=2, base_folder=tmp_path) == [
        found[0],
        found[-1],
    ]


def test_all_of_them(listing: List, tmp_path: Path) -> None:
    """Bug: a checkpoint lost, listed twice as branch and tag, or out of order."""
    listing(PYTHIA[::-1], tags=["step8", "v1"])
    found = checkpoints_of("eleutherai/pythia-70M", revisions="all", base_folder=tmp_path)
    assert [c.name for c in found] == PYTHIA[1:]


@pytest.mark.parametrize("where", ["HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints"])
def test_checkpoints_in_another_repository(where: str, listing: List, tmp_path: Path) -> None:
    """Bug: revisions of the final model's repository asked for, which has none; facts lost with the other id."""
    listing(["main", "step-240000", "step-480000"])
    found = checkpoints_of(where, revisions="all", base_folder=tmp_path)
    assert [(c.step, c.tokens) for c in found] == [(240000, 251_658_240_000), (480000, 503_316_480_000)]
    assert {(c.source, c.final) for c in found} == {
        ("HuggingFaceTB/SmolLM2-135M-intermediate-checkpoints", "HuggingFaceTB/SmolLM2-135M")
    }


def test_tokens_per_step_that_nobody_checked(listing: List, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: tokens worked out from a mere guess and reported like a fact."""
    facts = ModelFacts(
        hub_id="org/a",
        checkpoint_repo="org/a",
        checkpoint_revision="step{step}",
        tokens_per_step=100,
        unverified=("tokens_per_step",),
    )
    monkeypatch.setattr(module, "catalogue", lambda: Catalogue([facts]))
    listing(["step3"])
    assert checkpoints_of("org/a", revisions="all", base_folder=tmp_path)[0].tokens is None
    given = checkpoints_of("org/a", revisions="all", tokens_per_step=100, base_folder=tmp_path)
    assert given[0].tokens == 300


def test_pattern_by_hand(listing: List, tmp_path: Path) -> None:
    """Bug: a repository that the catalogue does not know cannot be studied, or one is guessed at."""
    listing(["main", "it-2", "it-10"])
    found = checkpoints_of("org/new", revisions="all", pattern="it-{step}", tokens_per_step=5, base_folder=tmp_path)
    assert [(c.name, c.tokens, c.final) for c in found] == [("it-2", 10, None), ("it-10", 50, None)]
    with pytest.raises(ModelError, match="nobody described the checkpoints of org/new"):
        checkpoints_of("org/new", revisions="log", base_folder=tmp_path)
    with pytest.raises(ModelError, match=r"no revision like 'x\{step\}', but main, it-2, it-10"):
        checkpoints_of("org/new", revisions="log", pattern="x{step}", base_folder=tmp_path)


def test_named_one_by_one(listing: List, tmp_path: Path) -> None:
    """Bug: the order of the list changed, a doublet measured twice, step and tokens unknown, commits refused."""
    listing(PYTHIA)
    wanted = ["step1000", "main", COMMIT, "step1000"]
    found = checkpoints_of("EleutherAI/pythia-160m", revisions=wanted, base_folder=tmp_path)
    assert [(c.revision, c.step, c.tokens) for c in found] == [
        ("step1000", 1000, 2_097_152_000),
        ("main", None, None),
        (COMMIT, None, None),
    ]


def test_unknown_revision(listing: List, tmp_path: Path) -> None:
    """Bug: a mistyped revision found out hours later, or a line with 154 names."""
    listing(PYTHIA)
    with pytest.raises(ModelError, match=r"no revision 'step1001'; did you mean .*step1000") as caught:
        checkpoints_of("EleutherAI/pythia-160m", revisions=["step0", "step1001"], base_folder=tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"no revision 'xyz'; it has main, step0, .* and 150 more$"):
        checkpoints_of("EleutherAI/pythia-160m", revisions=["xyz"], base_folder=tmp_path)


def test_without_the_hub(offline: Path) -> None:
    """Bug: what the cache holds cannot be measured, or a revision without files is said to be there."""
    found = checkpoints_of("org/toy", revisions=["step8", "runs/b", COMMIT], pattern="step{step}", base_folder=offline)
    assert [(c.revision, c.step) for c in found] == [("step8", 8), ("runs/b", None), (COMMIT, None)]
    assert resolve(found[0].source, revision=found[0].revision).revision == COMMIT
    for wanted in (["step8", "step9"], "log", "all"):
        with pytest.raises(
            ModelError, match=r"cannot list .*HF_HUB_OFFLINE is set; go online.* holds: runs/b, step8"
        ) as e:
            checkpoints_of("org/toy", revisions=wanted, pattern="step{step}", base_folder=offline)  # type: ignore[arg-type]
        assert "\n" not in str(e.value)
    with pytest.raises(ModelError, match="cache holds: none"):
        checkpoints_of("org/other", revisions=["main"], base_folder=offline)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub_errors.GatedRepoError, "gated; accept its terms"),
        (hub_errors.RepositoryNotFoundError, "neither a folder nor on the hub, or is private"),
        (ConnectionError, "cannot list the revisions .* go online"),
        (hub_errors.HfHubHTTPError.__bases__[0], "cannot list the revisions .* go online"),
    ],
)
def test_hub_errors(error: type[Exception], message: str, listing: List, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: a traceback when the hub is down, since its HTTP library has errors of its own."""
    listing([])

    def fail(*args: object) -> None:
        raise error.__new__(error)  # the hub builds its errors from a whole HTTP response

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_refs", fail)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoints_of("org/name", revisions="log", pattern="step{step}", base_folder=Path())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "./gone"}, "there is no folder"),
        ({"where": "gpt2"}, "no hub id"),
        ({"where": "org/a", "revisions": "all", "count": 3}, "only `revisions: log` chooses"),
        ({"where": "org/a", "count": 1}, "expected 2 or more"),
    ],
)
def test_wrong_request(options: dict[str, object], message: str, tmp_path: Path) -> None:
    """Bug: a missing folder looked for on the hub; a count that is ignored without a word."""
    with pytest.raises(ModelError, match=message):
        checkpoints_of(**{"revisions": "log", "base_folder": tmp_path} | options)  # type: ignore[arg-type]
