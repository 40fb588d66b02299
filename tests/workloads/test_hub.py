"""Datasets of the hub, through a small stand-in for the `datasets` library: no network, no extra needed."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from exitbench.errors import WorkloadError
from exitbench.workloads import Sample, load_workload


class FakeDataset:
    """The few members of datasets.Dataset that are used."""

    def __init__(self, rows, version="0.0.0", licence=""):
        self.rows = rows
        self.column_names = list(rows[0])
        self.info = SimpleNamespace(version=version, license=licence)

    def select_columns(self, columns):
        rows = [{key: row[key] for key in columns} for row in self.rows]
        return FakeDataset(rows, self.info.version, self.info.license)

    def __iter__(self):
        return iter(self.rows)


class FakeDatasetsError(Exception):
    """Stands for datasets.exceptions.DatasetsError, which is no ValueError."""


@pytest.fixture
def hub(monkeypatch):
    """A hub where every dataset has `hub.rows` and `hub.splits`; `hub.asked` keeps what was loaded."""
    hub = SimpleNamespace(rows=[{"prompt": "Hi"}], splits=["test"], asked=None, error=None, info={})

    def load_dataset(path, name, *, split):
        if hub.error:
            raise hub.error
        hub.asked = (path, name, split)
        return FakeDataset(hub.rows, **hub.info)

    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    module.get_dataset_split_names = lambda path, config: hub.splits
    module.exceptions = SimpleNamespace(DatasetsError=FakeDatasetsError)
    monkeypatch.setitem(sys.modules, "datasets", module)
    return hub


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ("hub:own/data", ("own/data", None, "test")),
        ("hub:own/data:dev", ("own/data", None, "dev")),
        ("hub:own/data/en", ("own/data", "en", "test")),
        ("hub:own/data/en:train[:9]", ("own/data", "en", "train[:9]")),
        ("hub:data", ("data", None, "test")),
        ("hub:data:dev", ("data", None, "dev")),
    ],
)
def test_address(hub, spec, asked):
    """Config or split taken from the wrong place of the address."""
    workload = load_workload(spec)
    assert hub.asked == asked
    assert workload.name == asked[0]


@pytest.mark.parametrize(
    "spec",
    [
        "hub:",
        "hub:/",
        "hub:own/",
        "hub:own//en",
        "hub:own/data:",
        "hub:a/b/c/d",
        "hub:../own",
        "hub:own/..",
        "hub:/etc",
    ],
)
def test_malformed_address(hub, spec):
    """An address that reads a folder of this machine, or an empty name passed on."""
    with pytest.raises(WorkloadError, match="is malformed; expected hub:OWNER/NAME"):
        load_workload(spec)


def test_folder_of_the_same_name(hub, tmp_path, monkeypatch):
    """A folder in the working directory read in place of the dataset and recorded under its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "data").mkdir(parents=True)
    with pytest.raises(WorkloadError, match="also a folder here"):
        load_workload("hub:own/data")


def test_rows(hub):
    """Columns that are not ours refused, null cells kept, version or licence lost."""
    hub.rows = [
        {"prompt": "Hi", "id": 7, "category": "a", "reference": "r", "source": "x"},
        {"prompt": "Ho", "id": 8, "category": None, "reference": None, "source": "y"},
    ]
    hub.info = {"version": "1.2.0", "licence": "MIT"}
    workload = load_workload("hub:own/data")
    assert (workload.kind, workload.version, workload.licence) == ("prompts", "1.2.0", "MIT")
    assert workload.samples == (
        Sample(id="7", category="a", turns=("Hi",), reference="r"),
        Sample(id="8", category="all", turns=("Ho",)),
    )


def test_texts(hub):
    """Empty rows of a text dataset measured, or their removal shifting the ids of those after them."""
    hub.rows = [
        {"text": "", "reference": "r"},
        {"text": "One", "reference": "r"},
        {"text": None, "reference": "r"},
    ]
    workload = load_workload("hub:own/data")
    assert (workload.kind, workload.version, workload.licence) == ("text", "unversioned", None)
    assert workload.samples == (Sample(id="2", category="all", turns=("One",)),)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"question": "Hi", "answer": "Ho"}],
            "has the columns question, answer; expected exactly one of prompt",
        ),
        ([{"prompt": "Hi", "text": "Ho"}], "has the columns prompt, text"),
        ([{"prompt": "Hi"}, {"prompt": ["Ho"]}], "hub:own/data: row 2: 'prompt' is"),
        ([{"prompt": "Hi"}, {"prompt": None}], "row 2: a row has none of 'prompt'"),
        ([{"prompt": "Hi"}, {"prompt": ""}], "row 2: 'prompt' is empty"),
        ([{"text": ""}, {"text": " "}], "has no samples"),
    ],
)
def test_unusable_rows(hub, rows, message):
    """A dataset of another shape read by guessing."""
    hub.rows = rows
    with pytest.raises(WorkloadError, match=message):
        load_workload("hub:own/data")


def test_several_splits(hub):
    """One of several splits chosen on the user's behalf."""
    hub.splits = ["train", "test"]
    with pytest.raises(WorkloadError, match="splits train, test; choose one by adding :train"):
        load_workload("hub:own/data")


@pytest.mark.parametrize(
    "error", [FileNotFoundError("no such\nsecond line"), ValueError(""), FakeDatasetsError("no such")]
)
def test_failed_download(hub, error):
    """A traceback, or several lines, for a dataset that is not there."""
    hub.error = error
    with pytest.raises(WorkloadError, match=r"cannot load hub:own/data: (no such|ValueError)$"):
        load_workload("hub:own/data")


def test_missing_extra(monkeypatch):
    """A bare ModuleNotFoundError that does not say what to install."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(WorkloadError, match=r"pip install 'exitbench\[hub-data\]'"):
        load_workload("hub:own/data")
