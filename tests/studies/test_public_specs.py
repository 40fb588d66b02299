"""The specs of studies of public models: they can be read, and compare what can be compared."""

from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from exitbench.api import study
from exitbench.models.catalogue import ModelFacts, catalogue
from exitbench.models.source import SHORT_NAMES
from exitbench.models.toy import save_toy
from exitbench.study.finding_spec import FACTORS, GroupSpec, KindsSpec, StagesSpec
from exitbench.study.spec import ModelEntry, StudySpec, read_spec
from exitbench.workloads import WORKLOADS

FILES = sorted((Path(__file__).parents[2] / "studies" / "public").glob("*.yaml"))
SPECS = {path.stem: read_spec(path) for path in FILES}


def facts_of(entry: ModelEntry) -> ModelFacts:
    name = entry.model or entry.checkpoints or ""
    facts = catalogue().find(SHORT_NAMES[name].hub_id if name in SHORT_NAMES else name)
    assert facts is not None, f"{name} is not in the catalogue"
    return facts


def test_the_specs_are_there() -> None:
    """Bug: a folder that moved, so that the tests below pass on nothing."""
    assert {"generations", "kinds", "sizes", "stages", "training", "controls"} <= set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_every_model_is_known(name: str) -> None:
    """Bug: a mistyped id, found out when hours of the study have passed, or a model that no group will take."""
    assert SPECS[name].name == name
    for entry in SPECS[name].models:
        facts = facts_of(entry)
        assert facts.hub_id == (entry.model or entry.checkpoints) or entry.model in SHORT_NAMES
        assert None not in (facts.kind, facts.stage, facts.release_month, facts.active_params_b), facts.hub_id


@pytest.mark.parametrize("name", SPECS)
def test_all_models_see_the_same_text(name: str) -> None:
    """Bug: the first so many tokens of each tokenizer, which is other text for other models; or a chat template."""
    spec = SPECS[name]
    assert spec.settings.chat_template is False
    modes = [entry.on or spec.settings.on for entry in spec.workloads]
    assert modes == ["text", "answers"]
    for entry in spec.workloads:
        assert entry.limit is None or entry.on == "answers"
        assert entry.workload in WORKLOADS or entry.workload.startswith("hub:Salesforce/wikitext/")
    assert spec.settings.limit is None


@pytest.mark.parametrize("name", SPECS)
def test_findings_are_judged_on_the_text(name: str) -> None:
    """Bug: a verdict on answers, which every model writes for itself, or no verdict fixed beforehand."""
    finding = SPECS[name].finding
    if name == "training":
        assert finding is None
        return
    assert finding is not None
    assert (finding.primary.figure, finding.on, finding.readout) == ("ees", "text", "logit")
    assert finding.workload == SPECS[name].workloads[0].workload.removeprefix("hub:").split("/wikitext-2")[0]
    assert {"ees_star", "ees_per_character", "aes_5pct"} <= {measure.figure for measure in finding.sensitivity}


def test_findings_name_figures_that_rows_have(tmp_path: Path) -> None:
    """Bug: a figure that nothing measures, so that hours of a study end in no verdict."""
    save_toy(tmp_path / "toy")
    (tmp_path / "s.yaml").write_text(
        "{name: s, settings: {on: text, limit: 2, document_tokens: 16}, measure: [score], workloads: [mini], "
        "models: [toy]}"
    )
    assert not study(tmp_path / "s.yaml", out=tmp_path / "out").failed
    [cell] = (tmp_path / "out" / "cells").glob("*.parquet")
    known = set(pq.read_table(cell, columns=["figure"])["figure"].to_pylist()) | set(FACTORS)
    for spec in SPECS.values():
        assert "score" in spec.measure
        if spec.finding is not None:
            named = [measure.figure for measure in (spec.finding.primary, *spec.finding.sensitivity)]
            assert {*named, *spec.finding.covariates} <= known, spec.name


def _groups(spec: StudySpec) -> dict[str, dict[str, list[str]]]:
    """Ids by what they are compared within, and by group."""
    finding = spec.finding
    assert finding is not None
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for entry in spec.models:
        facts = facts_of(entry)

        def value(factor: str, entry: ModelEntry = entry, facts: ModelFacts = facts) -> str:
            return str(entry.tags.get(factor.removeprefix("tags.")) or getattr(facts, factor, None))

        if isinstance(finding, GroupSpec) and finding.pair is not None:
            within = value(finding.pair)
        else:
            assert finding.within is not None
            within = value(finding.within.factor)
            if finding.within.edges:
                within = str(sum(float(within) >= edge for edge in finding.within.edges))
        found[within][value(finding.factor)].append(facts.hub_id or "")
    return found


def test_kinds_meet_in_every_band_of_size() -> None:
    """Bug: a band with one kind alone, whose models cost hours and count for nothing."""
    groups = _groups(SPECS["kinds"])
    finding = SPECS["kinds"].finding
    assert isinstance(finding, KindsSpec)
    assert all("dense" in kinds and len(kinds) >= 2 for kinds in groups.values())
    for other in finding.against:
        assert sum(other in kinds for kinds in groups.values()) >= 3
    for entry in SPECS["kinds"].models:
        facts = facts_of(entry)
        assert facts.stage == "base"
        assert entry.tags.get("twins") in (None, facts.twin_group)


def test_stages_are_pairs_of_one_base() -> None:
    """Bug: a tuned model paired with another base than the one that it was made of."""
    pairs = _groups(SPECS["stages"])
    assert len(pairs) >= 8
    assert isinstance(SPECS["stages"].finding, StagesSpec)
    for stages in pairs.values():
        [base] = stages.pop("base")
        assert stages
        for tuned in (one for group in stages.values() for one in group):
            found = catalogue().base_of(tuned)
            assert found is not None
            assert found.hub_id == base


@pytest.mark.parametrize(("name", "least"), [("generations", 3), ("sizes", 6)])
def test_trends_are_those_of_dense_base_models(name: str, least: int) -> None:
    """Bug: kind or stage that changes along with time or size; a line of one model, which has no trend."""
    for entry in SPECS[name].models:
        assert (facts_of(entry).kind, facts_of(entry).stage) == ("dense", "base")
    strata = _groups(SPECS[name])
    assert len(strata) >= least
    assert all(sum(map(len, stratum.values())) >= 2 for stratum in strata.values())
    if name == "sizes":
        spans = [[float(size) for size in stratum] for stratum in strata.values()]
        assert sum(min(sizes) <= 20 < max(sizes) for sizes in spans) >= 6


def test_trainings_can_be_followed() -> None:
    """Bug: a sweep of a model that has no checkpoints, or of too few to make a curve."""
    suites = catalogue().checkpoint_suites()
    families = set()
    for entry in SPECS["training"].models:
        facts = facts_of(entry)
        assert facts in suites
        if entry.revisions == "log" and (entry.count or 0) >= 8:
            families.add(facts.family)
    assert len(families) >= 4


def test_controls_are_what_they_were_made_of() -> None:
    """Bug: a control of another size than its base, which the pair would then show."""
    pairs = _groups(SPECS["controls"])
    del pairs["None"]  # the models at hand, which are in no pair
    assert len(pairs) == 3
    for stages in pairs.values():
        [base], [control] = stages["predict"], stages["exit"]
        found = catalogue().base_of(control)
        assert found is not None
        assert found.hub_id == base
