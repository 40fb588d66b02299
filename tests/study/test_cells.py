"""Cells: named after all that decides their numbers, and after nothing else."""

from itertools import product

import pytest

from exitbench.errors import ExitbenchError
from exitbench.models.toy import save_toy
from exitbench.study import cells as cells_module
from exitbench.study.cells import plan
from exitbench.study.spec import parse_spec
from toy_study import make_place, spec_of


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("cells"))


def planned(place, **changes):
    return plan(parse_spec(spec_of(**changes), "spec.yaml"), place)


def ids(place, **changes):
    return [cell.id for cell in planned(place, **changes)]


def test_every_model_on_every_workload(place):
    """A combination left out or measured twice, or models mixed so that weights are loaded again and again."""
    cells = planned(place)
    assert [(cell.model.label, cell.prompts.workload.name, cell.prompts.on) for cell in cells] == [
        (model, workload, on)
        for model, (workload, on) in product(("toy-0", "toy-1"), (("prompts", "answers"), ("text", "text")))
    ]
    assert len({cell.id for cell in cells}) == 4
    assert cells[0].name == "toy-0 on prompts (answers)"


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Other"},
        {"name": "others"},
        {"keep_traces": True},
        {"settings": spec_of()["settings"] | {"memory": "1GiB"}},
        {"models": [{"model": "toy-0", "label": "x", "tags": {"a": "b"}, "facts": {"kind": "moe"}}, "toy-1"]},
        {"measure": ["score", "score"]},
    ],
)
def test_words_are_no_part_of_a_cell(place, changes):
    """Days of measuring thrown away because a label was mended."""
    assert ids(place, **changes) == ids(place)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"measure": ["score", "representation"]},
        {"policies": ["margin"]},
        {"policies": [{"policy": "margin", "probes": "every"}]},
        *(
            {"settings": spec_of()["settings"] | changed}
            for changed in ({"limit": 3}, {"document_tokens": 20}, {"dtype": "bfloat16"}, {"chat_template": False})
        ),
    ],
)
def test_what_decides_numbers_decides_the_cell(place, changes):
    """A cell taken as done although another setting would give other numbers."""
    assert not set(ids(place, **changes)) & set(ids(place))


def test_contents_on_disk_decide_too(tmp_path):
    """Weights, tokeniser or prompts that changed under their path, and the old rows still taken for theirs."""
    place = make_place(tmp_path, num_models=1)
    before = ids(place, models=["toy-0"])
    save_toy(place / "toy-0", seed=9)
    other_weights = ids(place, models=["toy-0"])
    (place / "toy-0" / "vocab.json").write_text("{}")
    other_config = ids(place, models=["toy-0"])
    (place / "text.txt").write_text("Quite another text, long enough to be cut into a document or two.")
    other_text = ids(place, models=["toy-0"])
    assert len({*before, *other_weights, *other_config}) == 6
    assert other_text[0] == other_config[0]
    assert other_text[1] != other_config[1]


def test_checkpoints_of_a_folder(tmp_path):
    """Checkpoints under labels of their own, out of order, or all measured with the weights of one."""
    for step in (10, 2, 30):
        save_toy(tmp_path / "run" / f"step-{step}", seed=step, num_blocks=2)
    entry = {"checkpoints": "run", "label": "small", "facts": {"stage": "base"}}
    found = planned(tmp_path, workloads=["mini"], models=[entry])
    models = [cell.model for cell in found]
    assert [(model.label, model.revision, model.step) for model in models] == [
        ("small", "step-2", 2),
        ("small", "step-10", 10),
        ("small", "step-30", 30),
    ]
    assert [model.source for model in models] == ["run/step-2", "run/step-10", "run/step-30"]
    assert len({model.weights_sha256 for model in models}) == 3
    two = planned(tmp_path, workloads=["mini"], models=[entry | {"revisions": ["step-30", "step-2"]}])
    assert {cell.id for cell in two} < {cell.id for cell in found}


def test_entries_have_settings_of_their_own(place):
    """A limit meant for one workload applied to all, or to none."""
    first, second = planned(
        place, models=["toy-0"], workloads=["prompts.jsonl", {"workload": "prompts.jsonl", "on": "text", "limit": 2}]
    )
    assert (first.options.limit, second.options.limit) == (4, 2)
    assert (first.options.on, second.options.on) == ("answers", "text")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workloads": ["minni"]}, ("unknown workload 'minni'", "did you mean 'mini'", "folder of the spec")),
        ({"workloads": [{"workload": "text.txt", "on": "answers"}]}, ("plain text", "on: text")),
        ({"workloads": ["mini", "mini"]}, ("two cells are the same", "toy-0 on mini")),
        (
            {"workloads": [{"workload": "mini", "on": "text", "max_new_tokens": count} for count in (2, 3)]},
            ("two cells are the same", "toy-0 on mini"),
        ),
        ({"workloads": ["a" * 900]}, ("unknown workload",)),
        ({"models": ["smollm2-135m-instrct"]}, ("unknown model", "did you mean smollm2-135m-instruct")),
        ({"models": ["./toy-9"]}, ("no model './toy-9'", "relative to the spec's own folder")),
        ({"models": ["/nowhere/toy"]}, ("no model '/nowhere/toy'",)),
        ({"models": ["toy-0", "./toy-0"]}, ("2 models are called toy-0", "give them a label each")),
        ({"models": [{"model": "toy-0", "revision": "main"}]}, ("revision 'main'", "no hub id")),
        ({"models": [{"checkpoints": "nowhere"}]}, ("nowhere",)),
        ({"models": ["toy-0", {"model": "toy-0", "label": "b"}]}, ("two cells are the same", "b on prompts")),
        ({"readouts": ["tuned:none.safetensors"]}, ("none.safetensors",)),
        ({"policies": ["none.json"]}, ("no policy file none.json",)),
    ],
)
def test_what_is_refused(place, changes, words):
    """A mistake of the user that fails cell by cell after hours, or is told in a paragraph."""
    with pytest.raises(ExitbenchError) as error:
        planned(place, **changes)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_spec_is_read_in_its_own_folder(place, tmp_path, monkeypatch):
    """Another model measured, because a folder of that name lies in the working directory."""
    save_toy(tmp_path / "org" / "elsewhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExitbenchError, match="no model 'org/elsewhere'"):
        planned(place, models=["org/elsewhere"])


def test_too_many_cells(place, monkeypatch):
    """Memory eaten, or all weights hashed, before anyone says that the study can never end."""
    monkeypatch.setattr(cells_module, "_hashed", lambda model: pytest.fail("hashed before it was counted"))
    models = [{"model": "toy-0", "label": f"m{i}"} for i in range(400)]
    workloads = [{"workload": "mini", "limit": i + 1} for i in range(300)]
    with pytest.raises(ExitbenchError, match=r"the study has 120000 cells, expected at most 100000"):
        planned(place, models=models, workloads=workloads)
