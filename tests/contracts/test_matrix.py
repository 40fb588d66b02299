"""Every causal model type of transformers, put through load, trace, score and a decoder's trial; and the page of that.

A type that stops passing after an upgrade fails here; so does one that begins to pass, and one that is new: make the
page anew, and say in `UNSUPPORTED` why what does not pass does not, in `NOT_DECODED` why what passes is not decoded.
"""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from exitbench.matrix import NOT_DECODED, UNSUPPORTED, check_type
from exitbench.models.tiny import causal_model_types
from exitbench.report.coverage import coverage_row

PAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")

# What must pass by name, and as what.
DENSE = (
    *("gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "bloom", "mpt", "falcon", "llama", "mistral", "ministral"),
    *("ministral3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "olmo", "olmo2", "olmo3"),
    *("smollm3", "stablelm", "starcoder2", "cohere", "cohere2", "granite", "glm4", "nemotron", "exaone4"),
)
MOE = (
    *("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2", "deepseek_v3", "gpt_oss", "glm4_moe", "phimoe"),
    *("granitemoe", "llama4_text"),
)
SSM = ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")
HYBRID = (
    *("jamba", "zamba", "zamba2", "bamba", "falcon_h1", "nemotron_h", "granitemoehybrid", "qwen3_next"),
    *("qwen3_5_text", "recurrent_gemma", "lfm2", "kimi_linear", "olmo_hybrid", "minimax"),
)
PROMISED = dict.fromkeys(DENSE, "dense") | dict.fromkeys(MOE, "moe") | dict.fromkeys(SSM, "ssm")
PROMISED |= dict.fromkeys(HYBRID, "hybrid")
# What skipped blocks would still have to compute cannot be observed where no state is kept.
WITHOUT_CACHE = ("openai-gpt",)
# Keeps its state in its modules, where a decoder cannot put it back.
NOT_LOSSLESS = ("recurrent_gemma",)
# Promised, but not to be decoded.
NOT_TO_BE_DECODED = {"minimax", "rwkv", "xlstm"}
# Differs by more than rounding: part of what a compressed block attends to is left out.
APPROXIMATE = {"deepseek_v4": 0.01}


@pytest.fixture(scope="module", params=causal_model_types())
def row(request):
    return check_type(request.param)


def test_row(row):
    """A type that stops passing, or passes although the docs deny it; FLOPs that torch counts otherwise."""
    assert row.passed is (row.model_type not in UNSUPPORTED), row.reason
    if row.passed:
        assert row.blocks
        assert row.kind == PROMISED.get(row.model_type, row.kind) is not None
        assert 0 <= row.ees <= 1
        assert (row.completion_unknown is not None) is (row.model_type in WITHOUT_CACHE), row.completion_unknown
        assert (row.counter_flops_ratio is None) is bool(row.counter_misses)
        if row.counter_flops_ratio is not None:
            assert row.counter_flops_ratio == pytest.approx(1, abs=APPROXIMATE.get(row.model_type, 1e-3))
        assert row.decode is (row.model_type not in NOT_DECODED), row.decode_reason
        assert row.lossless is (row.decode and row.model_type not in NOT_LOSSLESS)
        assert (row.decode_reason is None) is row.lossless
        assert row.decode_cause == NOT_DECODED.get(row.model_type)
        assert coverage_row(asdict(row)) in PAGE
    else:
        assert row.reason
        assert "\n" not in row.reason
        assert f"| {row.model_type} | {row.cause} |" in PAGE


def test_promised_types_pass():
    """A family that the project promises among those it gave up."""
    assert PROMISED.keys() <= set(causal_model_types()) - set(UNSUPPORTED)
    assert PROMISED.keys() & NOT_DECODED.keys() == NOT_TO_BE_DECODED


def test_page_lists_every_type_once():
    """A page that was not made anew after an upgrade."""
    listed = re.findall(r"^\| ([\w-]+) \|", PAGE, flags=re.MULTILINE)
    assert sorted(listed) == sorted([*causal_model_types(), "type", "type"])
    num_passed, num_types = re.search(r"\*\*(\d+) of (\d+) types pass\*\*", PAGE).groups()
    assert int(num_types) == len(causal_model_types())
    assert int(num_passed) == len(causal_model_types()) - len(UNSUPPORTED) >= 150


def test_flops_are_compared_on_many_types():
    """A comparison that nearly every type is excused from."""
    compared, agreeing = re.search(r"compared on (\d+) types, on (\d+) of which", PAGE).groups()
    assert int(compared) >= int(agreeing) >= 100
