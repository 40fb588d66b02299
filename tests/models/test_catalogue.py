"""The table of known models: what it says, how sure it is of it, and where its links lead."""

import csv
import json
import re
import string
from importlib.resources import files
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exitbench.models.catalogue import OUTSIDE, Catalogue, ModelFacts, catalogue, marked, parse_row

ROWS = list(
    csv.DictReader(files("exitbench.models").joinpath("catalogue.csv").read_text(encoding="utf-8").splitlines())
)
GROUPS = {facts.twin_group for facts in catalogue()} - {None}


def _ids(found: Any) -> set[str]:
    return {facts.hub_id for facts in found}


# What the table says.


def test_dense_row_by_hand() -> None:
    """Bug: a column read into another's field, a number left a string, a mark read as part of a month."""
    assert catalogue().find("openai-community/gpt2") == ModelFacts(
        hub_id="openai-community/gpt2",
        origin="catalogue",
        family="GPT-2",
        generation="1",
        release_month="2019-02",
        total_params_b=0.124,
        active_params_b=0.124,
        num_blocks=12,
        hidden_size=768,
        vocab_size=50257,
        kind="dense",
        stage="base",
        sources="transformers; llama.cpp",
        unverified=("release_month",),
    )


@pytest.mark.parametrize(
    ("hub_id", "expected", "unverified"),
    [
        (
            "mistralai/Mixtral-8x22B-v0.1",
            {"kind": "moe", "total_params_b": 141, "active_params_b": 39, "num_blocks": 56},
            ("release_month", "total_params_b", "active_params_b"),
        ),
        (
            "mistralai/Mistral-Small-4-119B-2603",
            {"release_month": "2026-03", "total_params_b": 119, "active_params_b": None, "stage": "instruct"},
            ("stage",),
        ),
        ("tiiuae/falcon-mamba-7b", {"kind": "ssm", "num_blocks": 64, "vocab_size": 65024}, None),
        ("ai21labs/Jamba-v0.1", {"kind": "hybrid", "total_params_b": 52, "active_params_b": 12}, ("release_month",)),
        ("Qwen/QwQ-32B", {"stage": "reasoning", "generation": "2.5", "base": "Qwen/Qwen2.5-32B"}, None),
        ("facebook/opt-66b", {"total_params_b": 66, "num_blocks": 64, "hidden_size": 9216}, None),
        ("EleutherAI/pythia-160m", {"checkpoint_revision": "step{step}", "twin_group": "pile-160m"}, None),
    ],
)
def test_other_rows_by_hand(hub_id: str, expected: dict[str, Any], unverified: tuple[str, ...] | None) -> None:
    """Bug: a lone "?" read as a value or as 0, or marks dropped from some kinds of column."""
    facts = catalogue().find(hub_id)
    assert facts is not None
    assert {name: getattr(facts, name) for name in expected} == expected
    assert unverified is None or facts.unverified == unverified


def test_every_model_is_there_once() -> None:
    """Bug: rows lost while the table is edited, or two rows for one model."""
    assert len(catalogue()) == len(ROWS) == 134


def test_sources_are_named_in_words() -> None:
    """Bug: a private abbreviation in the data, which tells its reader nothing."""
    known = ("transformers", "LitGPT", "llama.cpp", "model card", "the id", "readers' notes", "GGUF")
    for row in ROWS:
        for source in filter(None, row["sources"].split("; ")):
            assert re.sub(r" (\(.*\)|of the short name .*)$", "", source) in known, row["hub_id"]
        sizes = ("num_blocks", "hidden_size", "vocab_size", "total_params_b")
        assert row["sources"] or all(row[name].endswith("?") for name in sizes), row["hub_id"]


def test_every_cell_survives_the_record() -> None:
    """Bug: a mark lost or gained, a number rounded, or a base outside the table taken for one inside."""
    listed = _ids(catalogue())
    for row, facts in zip(ROWS, catalogue(), strict=True):
        written = {name: marked(facts, name) for name in row}
        if facts.base is not None and facts.base not in listed:
            written["base"] = OUTSIDE + written["base"]
        assert written == row


@pytest.mark.parametrize("facts", list(catalogue()), ids=lambda facts: facts.hub_id)
def test_figures_are_plausible(facts: ModelFacts) -> None:
    """Bug: a typing error that puts a point, a column or a zero in the wrong place."""
    total, active = facts.total_params_b, facts.active_params_b
    assert facts.family
    assert facts.generation
    assert facts.kind
    assert facts.stage
    assert total is not None
    assert active is None or active <= total
    if facts.kind in ("dense", "ssm"):
        assert active == total
    if facts.kind == "moe":
        assert active is None or active < total
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", facts.hub_id or "")


def test_sizes_fit_each_other() -> None:
    """Bug: depth, width or parameters of another member of the family."""
    for facts in catalogue():
        if facts.active_params_b is None:
            continue
        assert facts.num_blocks is not None
        assert facts.hidden_size is not None
        assert facts.vocab_size is not None
        embedding = facts.vocab_size * facts.hidden_size
        in_blocks = facts.active_params_b * 1e9 - embedding
        if embedding < in_blocks / 2:  # else it matters too much whether there is a second one at the end
            # Weights that a token meets in a block, from bare mixers to wide experts, per squared width.
            assert 5 < in_blocks / (facts.num_blocks * facts.hidden_size**2) < 30, facts.hub_id


# How sure it is.


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["hub_id"])
def test_nothing_marked_counts_as_verified(row: dict[str, str]) -> None:
    """Bug: a fact nobody checked enters a study that excludes those."""
    facts = catalogue().find(row["hub_id"].removesuffix("?"))
    assert facts is not None
    verified = facts.verified_only()
    for name, cell in row.items():
        if name == "note":
            continue
        assert (name in facts.unverified) == (cell.endswith("?") and cell != "?")
        if name == "hub_id":
            assert verified.hub_id == facts.hub_id
        elif cell.endswith("?"):
            assert getattr(verified, name) is None
        else:
            assert getattr(verified, name) == getattr(facts, name)
    assert set(verified.unverified) <= {"hub_id"}
    assert verified.verified_only() == verified


FIELDS = {
    "hub_id": st.sampled_from(["org/a", "org/B-1.5"]),
    "family": st.sampled_from(["Qwen", "OLMo"]),
    "generation": st.sampled_from(["1", "3.1", "3-Next"]),
    "release_month": st.sampled_from(["2019-02", "2026-12"]),
    **dict.fromkeys(("total_params_b", "active_params_b"), st.integers(1, 99999).map(lambda n: f"{n / 1000:g}")),
    **dict.fromkeys(("num_blocks", "hidden_size", "vocab_size"), st.integers(1, 300_000).map(str)),
    "kind": st.sampled_from(["dense", "moe", "ssm", "hybrid"]),
    "stage": st.sampled_from(["base", "instruct", "reasoning"]),
}
EMPTY = dict.fromkeys(
    ("base", "twin_group", "checkpoint_repo", "checkpoint_revision", "tokens_per_step", "sources", "note"), ""
)


@given(
    cells=st.fixed_dictionaries(FIELDS),
    marks=st.fixed_dictionaries({name: st.sampled_from(["", "?", "unknown"]) for name in FIELDS}),
)
def test_marks_come_back(cells: dict[str, str], marks: dict[str, str]) -> None:
    """Bug: a mark that is lost on the way through a record, its JSON, or its verified copy."""
    cells = {name: "?" if marks[name] == "unknown" else cell + marks[name] for name, cell in cells.items()}
    facts = parse_row(cells | EMPTY)
    facts = ModelFacts.model_validate(json.loads(json.dumps(facts.model_dump(mode="json"))))
    assert {name: marked(facts, name) for name in cells} == cells
    kept = {name: marked(facts.verified_only(), name) for name in cells if name != "hub_id"}
    assert kept == {name: "?" if cells[name].endswith("?") else cells[name] for name in kept}


@pytest.mark.parametrize(
    "changes",
    [
        {"release_month": "2024-13"},
        {"release_month": "Feb 2024"},
        {"num_blocks": 0},
        {"total_params_b": 0},
        {"kind": "sparse"},
        {"stage": "chat"},
        {"colour": "blue"},
        {"unverified": ("kind",)},
        {"unverified": ("colour",)},
    ],
)
def test_wrong_facts_are_refused(changes: dict[str, Any]) -> None:
    """Bug: a missing figure stored as 0, a misspelt kind that no study finds, a mark on nothing."""
    with pytest.raises(pydantic.ValidationError):
        ModelFacts(**changes)


def test_facts_are_frozen() -> None:
    """Bug: the table that all share, changed by one of its readers."""
    facts = next(iter(catalogue()))
    with pytest.raises(pydantic.ValidationError):
        facts.family = "other"


# Finding, and following links.


def test_find_whatever_the_case() -> None:
    """Bug: a model that is listed treated as unlisted because the hub forgives capitals and we do not."""
    facts = catalogue().find("qwen/qwen3-8b")
    assert facts is not None
    assert facts.hub_id == "Qwen/Qwen3-8B"
    assert catalogue().find("Qwen/Qwen3-8") is None


def test_base_and_instruct_are_each_others_partners() -> None:
    """Bug: a link that can be followed one way only, or that takes a continued base model for an instruct one."""
    base = catalogue().base_of("meta-llama/Llama-2-7b-chat-hf")
    assert base is not None
    assert base.hub_id == "meta-llama/Llama-2-7b-hf"
    tuned = {facts.hub_id: facts.stage for facts in catalogue().tuned_from("meta-llama/llama-2-7b-HF")}
    assert tuned == {"meta-llama/Llama-2-7b-chat-hf": "instruct", "facebook/layerskip-llama2-7B": "base"}
    assert catalogue().base_of("EleutherAI/pythia-14m") is None
    assert catalogue().base_of("Qwen/Qwen3-4B-Thinking-2507") is None  # its base has no row
    assert catalogue().base_of("nobody/nothing") is None


def test_every_base_fits_what_was_made_of_it() -> None:
    """Bug: a base of another size or family of weights, named by a slip of the pen."""
    linked = [(facts, catalogue().base_of(facts.hub_id or "")) for facts in catalogue()]
    pairs = [(tuned, base) for tuned, base in linked if base is not None]
    assert len(pairs) >= 8
    for tuned, base in pairs:
        assert base is not tuned
        assert tuned in catalogue().tuned_from(base.hub_id or "")
        for name in ("num_blocks", "hidden_size", "vocab_size", "kind"):
            assert getattr(tuned, name) == getattr(base, name), (tuned.hub_id, name)
        assert (tuned.release_month or "") >= (base.release_month or ""), tuned.hub_id


def test_only_base_models_have_no_base() -> None:
    """Bug: a base model given a base, other than the controls that were trained on with an early-exit loss."""
    with_base = {facts.hub_id for facts in catalogue() if facts.stage == "base" and facts.base}
    assert with_base == {hub_id for hub_id in _ids(catalogue()) if hub_id.startswith("facebook/layerskip")}


def test_twins_by_hand() -> None:
    """Bug: a model that is its own twin, or twins that do not know of each other."""
    pile = {
        "EleutherAI/pythia-160m": "dense",
        "state-spaces/mamba-130m-hf": "ssm",
        "RWKV/rwkv-4-169m-pile": "ssm",
    }
    for hub_id in pile:
        twins = {facts.hub_id: facts.kind for facts in catalogue().twins_of(hub_id)}
        assert twins == {other: kind for other, kind in pile.items() if other != hub_id}
    assert catalogue().twins_of("EleutherAI/pythia-14m") == ()
    assert catalogue().twins_of("nobody/nothing") == ()


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_twins_differ_in_shape_and_not_in_size(group: str) -> None:
    """Bug: a group of one because of a misspelt name, or a comparison of models that are not comparable."""
    members = [facts for facts in catalogue() if facts.twin_group == group]
    assert len(members) >= 2
    assert len({(facts.kind, facts.num_blocks) for facts in members}) >= 2
    assert len({facts.stage for facts in members}) == 1
    active = [facts.active_params_b for facts in members if facts.active_params_b is not None]
    assert max(active) <= 3 * min(active)


def test_links_nobody_checked_are_no_links_among_verified_facts() -> None:
    """Bug: a study of verified facts that pairs models on a mere guess, from either end of the link."""
    verified = catalogue().verified_only()
    assert len(verified) == len(catalogue())
    assert _ids(catalogue().twins_of("allenai/OLMo-1B-hf")) == {"allenai/OLMoE-1B-7B-0924"}
    assert verified.twins_of("allenai/OLMo-1B-hf") == ()
    assert verified.twins_of("allenai/OLMoE-1B-7B-0924") == ()
    assert verified.base_of("Qwen/QwQ-32B") is None
    assert _ids(catalogue().tuned_from("Qwen/Qwen2.5-32B")) == {"Qwen/QwQ-32B"}
    assert verified.tuned_from("Qwen/Qwen2.5-32B") == ()
    assert _ids(verified.twins_of("EleutherAI/pythia-160m")) == _ids(catalogue().twins_of("EleutherAI/pythia-160m"))
    assert "allenai/OLMo-2-1124-7B" not in _ids(verified.checkpoint_suites())


def test_checkpoint_suites() -> None:
    """Bug: half a link to checkpoints, or a pattern that does not make a revision."""
    suites = catalogue().checkpoint_suites()
    assert _ids(suites) == {facts.hub_id for facts in catalogue() if facts.checkpoint_repo or facts.checkpoint_revision}
    for facts in suites:
        # A listed model holds final weights: checkpoints are in the own repository, or in one without a row.
        assert facts.checkpoint_repo == facts.hub_id or catalogue().find(facts.checkpoint_repo or "") is None
        assert any(field for _, field, _, _ in string.Formatter().parse(facts.checkpoint_revision or ""))
    patterns = {facts.hub_id: facts.checkpoint_revision for facts in suites}
    assert (patterns["EleutherAI/pythia-1b"] or "").format(step=1000) == "step1000"
    assert (patterns["LLM360/Amber"] or "").format(checkpoint=7) == "ckpt_007"
    assert (patterns["allenai/OLMo-1B-hf"] or "").format(step=1000, tokens=4) == "step1000-tokens4B"


def test_tokens_of_a_step() -> None:
    """Bug: tokens of a step where nothing counts steps, or a figure that is off by a factor."""
    told = {facts.hub_id: facts for facts in catalogue() if facts.tokens_per_step is not None}
    assert _ids(told.values()) <= _ids(catalogue().checkpoint_suites())
    assert all("{step}" in (facts.checkpoint_revision or "") for facts in told.values())
    pythias = {facts.tokens_per_step for facts in catalogue() if facts.family == "Pythia"}
    assert pythias == {1024 * 2048}  # sequences of a batch, tokens of a sequence
    assert 143_000 * 1024 * 2048 == 299_892_736_000  # what Pythia's authors say that each of them saw
    assert told["HuggingFaceTB/SmolLM2-360M"].unverified.count("tokens_per_step") == 1


def test_one_model_listed_twice_is_a_bug_of_ours() -> None:
    """Bug: two rows of which the first is silently ignored."""
    facts = ModelFacts(hub_id="org/a")
    with pytest.raises(AssertionError, match="twice"):
        Catalogue([facts, facts.model_copy(update={"hub_id": "ORG/A"})])
