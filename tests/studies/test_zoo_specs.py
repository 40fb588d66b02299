"""The specs of the zoo: they measure what the zoo trains, on one text, and judge by rules fixed beforehand."""

from pathlib import Path

import pytest

from exitbench.study.finding_spec import TAG
from exitbench.study.spec import StudySpec, read_spec

STUDIES = Path(__file__).parents[2] / "studies"
SPECS = {path.stem: read_spec(path) for path in sorted((STUDIES / "zoo").glob("*.yaml")) if path.stem != "real-models"}
JUDGED = {name: spec for name, spec in SPECS.items() if spec.finding is not None}


@pytest.fixture
def families(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import zoo_families

    return zoo_families


def members(spec: StudySpec) -> list[tuple[str, str]]:
    """Family and seed of every model."""
    return [tuple(Path(entry.checkpoints).name.rsplit("-", 1)) for entry in spec.models]


def test_the_specs_are_there():
    """A folder that moved, so that the tests below pass on nothing."""
    assert set(JUDGED) == {"kinds", "sizes", "generations", "stages", "controls"}
    assert set(SPECS) == {*JUDGED, "training"}


@pytest.mark.parametrize("name", SPECS)
def test_every_member_is_trained(name, families):
    """A family that the preset leaves out, or a seed that is missing on one side of a comparison."""
    preset = families.PRESETS["cpu"]
    spec = SPECS[name]
    assert spec.name == f"zoo-{name}"
    found = members(spec)
    assert {family for family, _ in found} <= set(preset.families)
    if name in JUDGED:
        names = {family for family, _ in found}
        assert sorted(found) == sorted((family, str(seed)) for family in names for seed in range(preset.seeds))
        assert all(entry.tags["seed"] == seed for entry, (_, seed) in zip(spec.models, found, strict=True))
        assert {entry.revisions for entry in spec.models} == {"last"}


@pytest.mark.parametrize("name", SPECS)
def test_all_see_the_same_text(name, families):
    """Documents longer than the rows that the models were trained on, which some know no positions for; answers."""
    spec = SPECS[name]
    assert spec.settings.on == "text"
    assert not spec.settings.chat_template
    assert spec.settings.document_tokens <= families.PRESETS["cpu"].row_tokens
    assert [entry.workload for entry in spec.workloads] == ["../../exitbench-out/zoo/text/held_out.jsonl"]


@pytest.mark.parametrize("name", JUDGED)
def test_the_rule_is_the_same_for_all(name):
    """A level, a least effect or a figure that was chosen for one finding."""
    finding = JUDGED[name].finding
    assert (finding.primary.figure, finding.alpha, finding.smallest_effect) == ("ees", 0.05, 0.02)
    assert [m.figure for m in finding.sensitivity] == [
        *("ees_star", "ees_blocks", "ees_per_character", "aes_1pct", "aes_5pct", "eas"),
    ]
    [trained] = finding.require
    assert (trained.factor, trained.at_least) == (f"{TAG}loss_below_unigram", 1.0)
    assert finding.cluster is None


def test_the_sweep_is_long_enough(families, monkeypatch):
    """Too few families or checkpoints to see a course in them."""
    from zoo_training import checkpoint_steps

    spec = SPECS["training"]
    assert len(spec.models) >= 4
    assert {entry.revisions for entry in spec.models} == {"all"}
    assert set(spec.measure) == {"score", "representation", "untrained"}
    assert len(checkpoint_steps(families.PRESETS["cpu"].steps)) >= 8
