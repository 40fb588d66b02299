"""What makes two traces the same measurement."""

import json

import pydantic
import pytest

from exitbench.models.catalogue import ModelFacts, catalogue
from exitbench.models.shape import COMPLETION_FIELDS
from exitbench.trace.manifest import SCHEMA_VERSION, Manifest


@pytest.fixture(scope="module")
def manifest(make_trace) -> Manifest:
    return make_trace([[1, 1, 1]]).manifest


def _changed(manifest, **changes):
    return Manifest.model_validate(manifest.model_dump(mode="json") | changes)


def test_circumstances_are_no_identity(manifest):
    """A trace that cannot be resumed on another day, or by another command."""
    other = _changed(manifest, command="another", created="2030-01-01T00:00:00+00:00", environment={"cores": 64})
    assert other.identity() == manifest.identity()


def test_facts_are_no_identity(manifest):
    """A correction of the catalogue that makes every trace of that model foreign."""
    other = _changed(manifest, facts=catalogue().find("EleutherAI/pythia-70m").model_dump(mode="json"))
    assert other.facts.family == "Pythia"
    assert other.identity() == manifest.identity()


def test_manifest_older_than_facts(manifest):
    """Traces made before facts were recorded that can no longer be read, or whose missing facts become values."""
    old = manifest.model_dump(mode="json")
    del old["facts"]
    read = Manifest.model_validate(old)
    assert read.facts == ModelFacts()
    assert set(read.facts.model_dump(exclude={"unverified"}).values()) == {None}
    assert read.identity() == manifest.identity()


def test_manifest_older_than_state_completion(manifest):
    """Traces made before it was counted what skipping a block costs: unreadable, foreign when resumed, or costing 0."""
    counted = manifest.model_dump(mode="json")
    for block in counted["shape"]["blocks"]:
        block["completion_flops"] = 7
    old = manifest.model_dump(mode="json")
    for block in old["shape"]["blocks"]:
        for name in COMPLETION_FIELDS:
            del block[name]
    read = Manifest.model_validate(old)
    assert read.shape.blocks[0].completion_flops is None
    assert read.identity() == Manifest.model_validate(counted).identity()


def test_manifest_older_than_optional_signals(manifest):
    """Traces made before signals could be asked for that are refused, or taken for other measurements."""
    old = manifest.model_dump(mode="json")
    del old["settings"]["also"]
    assert Manifest.model_validate(old).identity() == manifest.identity()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "weights_sha256", "f" * 64),
        ("model", "config_sha256", "f" * 64),
        ("model", "revision", "main"),
        ("workload", "sha256", "f" * 64),
        ("settings", "recorded", "decisions"),
        ("settings", "also", ["kl_prev"]),
        ("settings", "dtype", "bfloat16"),
        ("settings", "output_dtype", "bfloat16"),
        ("settings", "attention", "eager"),
        ("settings", "readout", "tuned:x"),
        ("settings", "device", "cuda"),
        ("settings", "chat_template", False),
        ("settings", "on", "text"),
        ("shape", "num_parameters", 5),
        ("libraries", "torch", "9.9"),
    ],
)
def test_whatever_can_change_a_number_is_identity(manifest, section, key, value):
    """Rows of two measurements merged because the difference was not looked at."""
    plain = manifest.model_dump(mode="json")
    other = _changed(manifest, **{section: plain[section] | {key: value}})
    assert other.identity() != manifest.identity()


def test_round_trip_through_json(manifest):
    """An identity that differs from itself after being saved (tuples and lists), or facts that lose their marks."""
    manifest = manifest.model_copy(update={"facts": catalogue().find("Qwen/QwQ-32B")})
    saved = json.loads(json.dumps(manifest.model_dump(mode="json")))
    assert "base" in saved["facts"]["unverified"]
    assert Manifest.model_validate(saved) == manifest
    assert Manifest.model_validate(saved).identity() == manifest.identity()
    assert saved["schema_version"] == SCHEMA_VERSION


def test_frozen_and_strict(manifest):
    """A setting misspelt, or changed after the fact."""
    with pytest.raises(pydantic.ValidationError):
        _changed(manifest, colour="blue")
    with pytest.raises(pydantic.ValidationError):
        manifest.command = "other"
    settings = manifest.model_dump(mode="json")["settings"]
    with pytest.raises(pydantic.ValidationError):
        _changed(manifest, settings=settings | {"on": "both"})
