"""A finding is refused before anything is measured, if what it asks for will not be there, or is not what it was."""

import json
import re
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch

from command_line import exitbench
from exitbench.api import plan_study, study
from exitbench.errors import ExitbenchError, StudyError
from exitbench.models.revision_names import Checkpoint
from exitbench.models.toy import save_toy
from exitbench.study import attempt as attempt_module
from exitbench.study import cells
from exitbench.study.figures import figures_made
from exitbench.study.preflight import check_finding
from exitbench.study.run import prepare
from exitbench.study.spec import PolicyEntry, parse_spec, read_spec
from study_rows import failed
from toy_study import CONTROL, make_place, rows_in, spec_of, write_spec

TAGS = ({"size": "large", "loss": "1.5", "twin": "a"}, {"size": "small", "loss": "1.2", "twin": "a"})
MODELS = [{"model": f"toy-{i}", "tags": tags} for i, tags in enumerate(TAGS)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    torch.set_num_threads(1)
    return make_place(tmp_path_factory.mktemp("preflight"))


def spec_with(finding=(), **changes):
    """A study of two toys on a text, with a finding."""
    return spec_of(**{"workloads": ["text.txt"], "models": MODELS, "finding": CONTROL | dict(finding)} | changes)


def planned(**changes):
    """What is known of the two toys before they are loaded."""
    shared = {"workload": "text", "on": "text"} | changes
    return [failed("to do", cell=f"c{i}", model=f"toy-{i}", tags=tags, **shared) for i, tags in enumerate(TAGS)]


def checked(finding=(), rows=None, **changes):
    check_finding(parse_spec(spec_with(finding, **changes), "spec.yaml"), planned() if rows is None else rows)


GOOD = [
    {},
    {"sensitivity": ["ees_star", "eas", "batch", {"figure": "eas", "variant": "hidden_cosine"}]},
    {"primary": {"figure": "eas", "variant": "logit_cosine", "at": 0.3}},
    {"primary": {"figure": "batch", "at": 4}, "covariates": ["tags.loss", "vocab_size", "bits_per_character"]},
    {"within": {"factor": "tags.loss", "edges": [1, 2]}, "cluster": "tags.twin"},
    {"pair": "tags.twin", "require": [{"factor": "tags.loss", "at_least": 1, "otherwise": "poor"}]},
    {"factor": "kind", "reference": "dense", "against": ["moe"], "cluster": "family"},
]


@pytest.mark.parametrize("finding", GOOD)
def test_what_can_be_judged_is_not_refused(finding):
    """Days of measuring that are refused, since the weights will tell what the spec does not."""
    checked(finding)


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        ({"primary": "ess_star"}, ("primary", "unknown figure 'ess_star'", "did you mean 'ees_star'?")),
        ({"sensitivity": ["ees", "aes_1pc"]}, ("sensitivity", "did you mean 'aes_1pct'?")),
        ({"sensitivity": ["ees_untrained_mean"]}, ("not measured by this study", "add 'untrained' to 'measure'")),
        ({"sensitivity": ["policy_savings"]}, ("not measured by this study", "give 'policies'")),
        ({"primary": "entropy"}, ("curve by depth", "one number a model")),
        ({"primary": "eas"}, ("stands for several", "variant and at")),
        ({"primary": {"figure": "eas", "variant": "logit_cosin", "at": 0.5}}, ("did you mean 'logit_cosine'?",)),
        ({"primary": {"figure": "eas", "variant": "logit_cosine", "at": 0.55}}, ("with at 0.55", "0.5")),
        ({"primary": {"figure": "ees", "variant": "x"}}, ("ees is not measured with variant 'x'", "leave that out")),
        ({"primary": "loop_share"}, ("only on answers", "judged on text")),
        ({"sensitivity": ["max_skip"]}, ("in no study",)),
        ({"covariates": ["vocabsize"]}, ("covariates", "did you mean 'vocab_size'?")),
        ({"covariates": ["eas"]}, ("covariates", "stands for several")),
        ({"covariates": ["kind"]}, ("kind must be a number",)),
        ({"covariates": ["tags.size"]}, ("tags.size must be a number of each model, got large, small",)),
        ({"covariates": ["release_month"]}, ("release_month is known of no model", "'facts'")),
        ({"factor": "tags.sise"}, ("no model has tags.sise", "did you mean 'tags.size'?")),
        ({"pair": "tags.twins"}, ("no model has tags.twins", "did you mean 'tags.twin'?")),
        ({"cluster": "tags.recipe"}, ("no model has tags.recipe",)),
        ({"require": [{"factor": "tags.los", "at_least": 1, "otherwise": "poor"}]}, ("did you mean 'tags.loss'?",)),
        ({"within": {"factor": "tags.size", "edges": [1]}}, ("tags.size must be a number",)),
        ({"against": ["smal"]}, ("no model has tags.size 'smal'", "did you mean 'small'?")),
        ({"factor": "kind", "reference": "dense", "against": ["meo"]}, ("no model has kind 'meo'", "'moe'?")),
        ({"pair": "catalogue"}, ("toy-0: its pair is not known: the catalogue has no", "'pair: tags.NAME'")),
        ({"within": "tags.loss"}, ("no two models differ in tags.size and are alike in tags.loss",)),
        (
            {"require": [{"factor": "tags.loss", "at_least": 100, "otherwise": "poor"}]},
            ("large - small would compare nothing", "reach what is required"),
        ),
        ({"workload": "txt"}, ("no rows of workload txt, only of text",)),
        ({"on": "answers"}, ("no rows of on answers, only of text",)),
        ({"readout": "tuned:x"}, ("no rows of readout tuned:x, only of logit",)),
    ],
)
def test_what_could_not_be_judged(finding, words):
    """A slip of the pen met after days of measuring, in a folder whose finding cannot be changed any more."""
    with pytest.raises(ExitbenchError) as refused:
        checked(finding)
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith("finding: ")
    assert all(word in message for word in words), message


def test_where_it_is_judged_must_be_one_place():
    """A study on two workloads whose finding says neither, or one label that stands for two models."""
    rows = [*planned(), *planned(workload="prompts", on="answers")]
    with pytest.raises(ExitbenchError, match="rows are of workload prompts, text; say 'workload: prompts', or another"):
        checked(rows=rows)
    checked({"workload": "text"}, rows=rows)
    twice = [failed("to do", cell=f"r{i}", model="toy-0", revision=f"r{i}", tags=TAGS[0]) for i in range(2)]
    with pytest.raises(ExitbenchError, match="toy-0 is measured with revision r0 and r1"):
        checked(rows=twice)


def _tagged(*tags):
    rows = planned()
    return [replace(rows[0], cell=f"t{i}", model=f"t-{i}", tags=given) for i, given in enumerate(tags)]


LARGE, SMALL = ({"size": size, "loss": "1.5", "twin": "a"} for size in ("large", "small"))


@pytest.mark.parametrize(
    ("tags", "section", "words"),
    [
        ({"sizes": "small"}, {}, "t-2 has no tags.size; did you mean tags.sizes?"),
        (SMALL | {"size": "smal"}, {}, "tags.size of t-2 is 'smal'; did you mean 'small'?"),
        ({"size": "small"}, {"pair": "tags.twin"}, "t-2 has no tags.twin; give it under its tags"),
        ({"twin": "a"}, {"pair": "tags.twin"}, "t-2 has no tags.size; give it under its tags"),
        ({"size": "small"}, {"cluster": "tags.twin"}, "t-2 has no tags.twin"),
        (
            SMALL | {"loss": "x1"},
            {"covariates": ["tags.loss"]},
            "tags.loss must be a number of each model, got x1",
        ),
    ],
)
def test_a_slip_in_the_tags_of_one_model(tags, section, words):
    """A model left out for ever, since the tags of the others are right."""
    with pytest.raises(StudyError, match=re.escape(words)):
        checked(section, rows=_tagged(LARGE, SMALL, tags))


@pytest.mark.parametrize("tags", [{}, {"note": "of another kind"}, {"size": "tiny"}])
def test_a_model_that_is_not_to_be_compared(tags):
    """Days of measuring that are refused, since one of the models is there for something else."""
    checked({"pair": "tags.twin"}, rows=_tagged(LARGE, SMALL, tags))


def test_numbers_that_a_trend_has():
    """A slope over words, or over a month that nobody gave."""
    trend = {"question": "generations", "claim": "it falls", "smallest_effect": 0.02, "cluster": None}

    def checked_trend(**section):
        check_finding(parse_spec(spec_of(finding=trend | section), "spec.yaml"), planned())

    with pytest.raises(StudyError, match=r"tags\.size must be a number of each model, got large, small"):
        checked_trend(factor="tags.size")
    with pytest.raises(StudyError, match="release_month is known of no model"):
        checked_trend()
    checked_trend(factor="tags.loss")
    with pytest.raises(StudyError, match=r"slope would compare nothing: no two models differ in tags\.same"):
        check_finding(
            parse_spec(spec_of(finding=trend | {"factor": "tags.same"}), "spec.yaml"), _tagged(*[{"same": "1"}] * 3)
        )


def test_the_list_of_figures_is_what_a_study_makes(place, tmp_path):
    """A figure that is refused though it is measured, or taken though nothing makes it; a wrong variant or mode."""
    measure, policies = ["score", "representation", "untrained"], ["margin"]
    settings = spec_of()["settings"] | {"limit": 10, "document_tokens": 16}
    spec = spec_of(measure=measure, policies=policies, models=["toy-0"], settings=settings)
    run = study(write_spec(place, spec, "all.yaml"), out=tmp_path / "out")
    assert run.failed == ()
    rows = rows_in(tmp_path / "out")
    made = figures_made([PolicyEntry(policy="margin")])
    assert set(made) == {*measure, "policies"}
    expected = {name: rows for figures in made.values() for name, rows in figures.items()}
    assert sum(map(len, made.values())) == len(expected), "a figure of two groups"
    assert {row["figure"] for row in rows} == set(expected)
    for name, several in expected.items():
        own = [row for row in rows if row["figure"] == name]
        assert {row["depth"] is not None for row in own} == {several.by_depth}, name
        assert {row["on"] for row in own if row["value"] is not None} <= set(several.on), name
        for column in ("variant", "target", "at"):
            there, known = {row[column] for row in own if row["value"] is not None}, getattr(several, column)
            if known is not None and there:
                assert there <= (set(known) or {None}), (name, column)
                assert not known or name.startswith("policy") or there == set(known), (name, column)
    with_policies = {row["variant"] for row in rows if row["figure"] == "policy_savings"}
    assert with_policies == set(expected["policy_savings"].variant)


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_it_is_refused_before_anything_is_loaded(place, tmp_path, monkeypatch, dry):
    """A model loaded, a folder made, or a dry run that finds nothing wrong."""
    monkeypatch.setattr(attempt_module, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    spec = write_spec(place, spec_with({"primary": "ess"}), "typo.yaml")
    outcome = exitbench("study", spec, "--out", tmp_path / "out", "--quiet", *dry)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: finding: primary: unknown figure 'ess'; did you mean 'ees'?")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def judged(place, tmp_path_factory):
    """The folder of a study with a finding, all of it measured; only refused runs may follow."""
    out = tmp_path_factory.mktemp("judged") / "out"
    assert study(write_spec(place, spec_with({"pair": "tags.twin"}), "judged.yaml"), out=out).done == 2
    return out


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"tags": TAGS[0] | {"size": "small"}}, "tags.size of toy-0 was large when it was measured and is small now"),
        ({"tags": {"size": "large"}}, "tags.twin of toy-0 was a when it was measured and is not given now"),
        ({"label": "other"}, "label of toy-0 was toy-0 when it was measured and is other now"),
        ({"facts": {"step": 3}}, "step of toy-0 was not given when it was measured and is 3 now"),
    ],
)
@pytest.mark.parametrize("run", [study, plan_study])
def test_words_that_a_finding_uses_are_fixed_with_it(place, judged, model, words, run):
    """A model moved into the other group once its score is known; rows that are rewritten before it is refused."""
    before = rows_in(judged)
    spec = spec_with({"pair": "tags.twin"}, models=[MODELS[0] | model, MODELS[1]])
    with pytest.raises(StudyError, match=re.escape(words) + ", and the finding goes by it, which is fixed"):
        run(write_spec(place, spec, "moved.yaml"), out=judged)
    assert rows_in(judged) == before


def test_other_words_may_change_and_so_may_those_of_what_failed(place, tmp_path, monkeypatch):
    """A note that cannot be mended, or a tag of a model that has no result yet."""
    monkeypatch.setattr(attempt_module, "load", lambda *_, **__: 1 / 0)
    out, swapped = tmp_path / "out", [MODELS[0] | {"tags": TAGS[1]}, MODELS[1] | {"tags": TAGS[0]}]
    assert len(study(write_spec(place, spec_with(models=swapped), "words.yaml"), out=out).failed) == 2
    monkeypatch.undo()
    spec = write_spec(place, spec_with(), "words.yaml")
    assert study(spec, out=out, retry_failed=True).done == 2
    noted = [MODELS[0] | {"tags": TAGS[0] | {"note": "old", "loss": "9"}}, MODELS[1]]
    study(write_spec(place, spec_with(models=noted), "words.yaml"), out=out)
    assert {dict(row["tags"]).get("note") for row in rows_in(out) if row["model"] == "toy-0"} == {"old"}


def test_models_that_are_added_are_named(place, judged, tmp_path):
    """Models added until the p-value falls, without a word."""
    out = copytree(judged, tmp_path / "out")
    record = json.loads((out / "finding.json").read_text())
    assert not any("already" in caution or "not known" in caution for caution in record["cautions"])
    save_toy(place / "toy-2", seed=2)
    more = [*MODELS, {"model": "toy-2", "tags": TAGS[1] | {"twin": "a"}}]
    spec = write_spec(place, spec_with({"pair": "tags.twin"}, models=more), "more.yaml")
    for _ in range(2):
        finding = study(spec, out=out).finding
        assert "Planned only when there were results already: toy-2." in finding.cautions


def test_weights_that_are_replaced_are_models_chosen_after_results(place, tmp_path):
    """Other weights in every folder once the verdict is known, told as planned before there were any."""
    own = make_place(tmp_path / "own")
    spec, out = write_spec(own, spec_with()), tmp_path / "out"
    study(spec, out=out)
    for i in range(2):
        save_toy(own / f"toy-{i}", seed=7 + i)
    finding = study(spec, out=out).finding
    assert "Planned only when there were results already: toy-0, toy-1." in finding.cautions


@pytest.mark.parametrize("run", [study, plan_study])
def test_a_checkpoint_that_is_gone_moves_no_model(tmp_path, run):
    """A model judged at step 10 instead of 100, since somebody removed the folder that was judged."""
    own, out = make_place(tmp_path / "own"), tmp_path / "out"
    for step in (10, 100):
        save_toy(own / "train" / f"step-{step}", seed=step)
    train = {"checkpoints": "train", "revisions": "all", "tags": TAGS[1]}
    spec = write_spec(own, spec_with(models=[MODELS[0], train]))
    assert study(spec, out=out).done == 3
    gone = (own / "train" / "step-100").rename(own / "gone")
    before = rows_in(out)
    with pytest.raises(StudyError, match="train at step-100 was measured and is no longer there; put it back, or use"):
        run(spec, out=out)
    assert rows_in(out) == before
    gone.rename(own / "train" / "step-100")
    (own / "train" / "step-10").rename(own / "gone")
    run(spec, out=out)  # an earlier one is not judged


STUDIES = Path(__file__).parents[2] / "studies"
SPECS = [file for file in sorted(STUDIES.glob("*/*.yaml")) if file.stem != "real-models"]  # which judges nothing


@pytest.mark.parametrize("file", SPECS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_specs_that_come_with_the_project(file, tmp_path, monkeypatch):
    """A study of ours that its own program refuses, once there is a hub or a zoo to measure."""
    text = tmp_path / "exitbench-out" / file.parent.name / "text" / "held_out.jsonl"
    text.parent.mkdir(parents=True)
    text.write_text('{"id": "a", "prompt": "Some text."}\n')
    (base := tmp_path / "studies" / file.parent.name).mkdir(parents=True)
    load = cells.load_workload
    monkeypatch.setattr(
        cells,
        "load_workload",
        lambda name: replace(load("mini"), name="Salesforce/wikitext") if name.startswith("hub:") else load(name),
    )

    def last(where, **_):
        tags = {"loss_below_unigram": "1.5", "zoo": Path(where).name.rpartition("-")[0]}
        return [Checkpoint(source=where, revision="r", name="step-9", step=9, tokens=9, tags=tags)]

    monkeypatch.setattr(cells, "checkpoints_of", last)
    _, planned_cells, rows = prepare(read_spec(file), base, tmp_path / "out")
    assert len(planned_cells) == len(rows) > 0
