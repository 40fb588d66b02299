"""Forecasts: rough, but never nothing for what is not known."""

import pytest

from exitbench.models.toy import save_toy, toy_model
from exitbench.study import estimate
from exitbench.study.cells import plan
from exitbench.study.estimate import CELL_S, forecast, size_of
from exitbench.study.folder import StudyFolder
from exitbench.study.spec import parse_spec
from toy_study import make_place, spec_of


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("estimate"), num_models=1)


def forecast_of(place, **changes):
    spec = parse_spec(spec_of(**changes), "spec.yaml")
    return forecast(plan(spec, place), StudyFolder(place / "out", spec), spec)


def test_a_local_model_is_counted(place):
    """Parameters of a file counted twice, or in bytes."""
    (cell,) = plan(parse_spec(spec_of(models=["toy-0"], workloads=["text.txt"]), "s"), place)
    size = size_of(cell.model, "auto")
    assert size.total == sum(parameter.numel() for parameter in toy_model().parameters())
    assert (size.num_blocks, size.vocab_size, size.bytes_each) == (4, 259, 4)


@pytest.mark.parametrize("model_type", ["gpt2", "mamba2"])
def test_other_names_of_sizes(tmp_path, model_type):
    """A model whose config says n_embd and n_layer is taken to be of unknown size."""
    save_toy(tmp_path / "toy-0", model_type)
    (tmp_path / "text.txt").write_text("A text. " * 40)
    (cell,) = plan(parse_spec(spec_of(models=["toy-0"], workloads=["text.txt"]), "s"), tmp_path)
    size, model = size_of(cell.model, "auto"), toy_model(model_type)
    assert size.total == sum(parameter.numel() for parameter in model.parameters())
    assert (size.num_blocks, size.hidden_size) == (4, model.config.hidden_size)


def test_what_is_not_known_is_said(place):
    """A model of unknown size taken to need no time, memory or download."""
    there = forecast_of(place, models=["toy-0"])
    both = forecast_of(place, models=["toy-0", "nobody/knows-7b"])
    assert (there.cells, len(there.todo), there.unknown, there.download_bytes) == (2, 2, (), 0)
    assert both.unknown == ("knows-7b",)
    assert (both.cells, len(both.todo)) == (4, 4)
    assert (both.time_s, both.memory_bytes) == (there.time_s, there.memory_bytes)
    assert there.time_s > 2 * CELL_S
    assert there.memory_bytes > 2 * 2**30


def test_larger_models_take_more(place, monkeypatch):
    """A forecast that does not know a listed model, or fetches what is there."""
    monkeypatch.setattr(estimate.huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    small, large = (
        forecast_of(place, models=[model]) for model in ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-1.7B")
    )
    assert (small.unknown, large.unknown) == ((), ())
    assert large.time_s > small.time_s
    assert large.download_bytes == pytest.approx(2 * 1.71e9, rel=0.1)
    assert large.memory_bytes - 2 * 2**30 == large.download_bytes
    monkeypatch.setattr(estimate.huggingface_hub, "try_to_load_from_cache", lambda *_, **__: "there")
    assert forecast_of(place, models=["HuggingFaceTB/SmolLM2-135M"]).download_bytes == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"measure": ["score", "representation"]},
        {"measure": ["score", "untrained"]},
        {"settings": spec_of()["settings"] | {"limit": 8}},
        {"settings": spec_of()["settings"] | {"max_new_tokens": 30}},
    ],
)
def test_more_work_takes_longer(place, monkeypatch, changes):
    """Twins, or more prompts, for nothing."""
    monkeypatch.setattr(estimate, "CPU_FLOPS", 1e6)
    assert forecast_of(place, models=["toy-0"], **changes).time_s > forecast_of(place, models=["toy-0"]).time_s
