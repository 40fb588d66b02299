"""The specs of the zoo: they measure what the zoo trains, on one text, and judge by rules fixed beforehand."""

from pathlib import Path

import pytest

from exitbench.study.finding_spec import TAG
from exitbench.study.spec import StudySpec, read_spec

STUDIES = Path(__file__).parents[2] / "studies"
SPECS = {
    f"{folder}-{path.stem}": read_spec(path)
    for folder in ("zoo", "zoo-gpu")
    for path in sorted((STUDIES / folder).glob("*.yaml"))
    if path.stem != "real-models"
}
JUDGED = {name: spec for name, spec in SPECS.items() if spec.finding is not None}


@pytest.fixture
def families(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import zoo_families

    return zoo_families


def members(spec: StudySpec) -> list[tuple[str, str]]:
    """Family and seed of every model."""
    return [tuple(Path(entry.checkpoints).name.rsplit("-", 1)) for entry in spec.models]


def preset_of(families, name):
    return families.PRESETS["gpu" if name.startswith("zoo-gpu") else "cpu"]


def test_the_specs_are_there():
    """A folder that moved, so that the tests below pass on nothing."""
    judged = {"kinds", "sizes", "generations", "stages", "controls"}
    assert set(JUDGED) == {f"{zoo}-{name}" for zoo in ("zoo", "zoo-gpu") for name in judged} | {"zoo-gpu-depth"}
    assert set(SPECS) == {*JUDGED, "zoo-training", "zoo-gpu-training"}


@pytest.mark.parametrize("name", SPECS)
def test_every_member_is_trained(name, families):
    """A family that the preset leaves out, or a seed that is missing on one side of a comparison."""
    preset = preset_of(families, name)
    spec = SPECS[name]
    assert spec.name == name
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
    spec, zoo = SPECS[name], "zoo-gpu" if name.startswith("zoo-gpu") else "zoo"
    assert spec.settings.on == "text"
    assert not spec.settings.chat_template
    assert spec.settings.document_tokens <= preset_of(families, name).row_tokens
    assert [entry.workload for entry in spec.workloads] == [f"../../exitbench-out/{zoo}/text/held_out.jsonl"]


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


@pytest.mark.parametrize("name", ["zoo-training", "zoo-gpu-training"])
def test_the_sweep_is_long_enough(name, families):
    """Too few families or checkpoints to see a course in them."""
    from zoo_training import checkpoint_steps

    spec = SPECS[name]
    assert len(spec.models) >= 4
    assert {entry.revisions for entry in spec.models} == {"all"}
    assert set(spec.measure) == {"score", "representation", "untrained"}
    assert len(checkpoint_steps(preset_of(families, name).steps)) >= 8
