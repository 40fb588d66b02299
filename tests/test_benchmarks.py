"""The benchmark scripts run, at a small size; what they measure is nobody's test.

Those that are long, or that set what holds for a process, run in one of their own; the others run in this one.
"""

import csv
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from exitbench.api import TraceOptions, trace
from exitbench.models.toy import save_toy
from scripts import said_by

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = [path.name for path in sorted(BENCHMARKS.glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")]
SCRIPTS.remove("readout_gpu.py")  # it decides for the whole process how kernels run


def printed_by(command):
    """What a script prints; the end of its complaints if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: ..{done.stderr[-3000:]}"
    return done.stdout


def result_of(command):
    """The JSON object that a script prints last."""
    return json.loads(printed_by(command).splitlines()[-1])


def result_here(script, *arguments):
    """The JSON object that a script prints last, run in this process."""
    return json.loads(said_by(BENCHMARKS / script, *arguments).splitlines()[-1])


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_of_every_script(script):
    """A script that imports what was renamed, or whose options clash."""
    if script == "study_ray.py":
        pytest.importorskip("ray")
    assert said_by(BENCHMARKS / script, "--help").startswith(f"usage: {script}")


def test_peers_that_are_missing_are_rows_with_the_reason(tmp_path):
    """A crash, or a figure, for a library that is not there; ways of ours that see different things in float32."""
    toy = str(save_toy(tmp_path))
    sizes = ("--dtype", "float32", "--tokens", "24", "--length", "12", "--repeats", "1")
    ways = result_here("peers.py", "--model", toy, *sizes)["ways"]
    for name, module in {"TransformerLens": "transformer_lens", "nnterp": "nnterp"}.items():
        absent = find_spec(module) is None
        assert (ways[name]["reason"] == "not installed") == absent
        assert ("time_s" in ways[name]) != absent
    for name in ("naive lens", "exitbench, lazy"):
        assert ways[name]["same_decision_depth"] == 1, name
        assert ways[name]["ratio_to_forward"]["median"] > 0, name


def test_tuned_lens_recovers_something_or_nothing(tmp_path):
    """A difference of two traces that saw other tokens; a figure without its interval or its n."""
    toy = str(save_toy(tmp_path))
    sizes = ("--dtype", "float32", "--text", "mini", "--tokens", "1000", "--limit", "12", "--max-new-tokens", "4")
    result = result_here("tuned_lens.py", "--model", toy, *sizes)
    assert result["n_prompts"] == 12
    difference = result["tuned"]["ees"]["value"] - result["plain"]["ees"]["value"]
    assert result["recovered"]["ees"]["value"] == pytest.approx(difference)
    assert result["recovered"]["ees"]["low"] <= difference <= result["recovered"]["ees"]["high"]
    assert result["lens"]["workload"] == "mini"


@pytest.mark.slow  # models of up to 32 blocks, timings included
def test_scaling_has_every_point():
    """A size that is left out, or a way that is not timed."""
    command = [sys.executable, str(BENCHMARKS / "readout_scaling.py"), "--tokens", "8", "--repeats", "1"]
    points = result_of([*command, "--axes", "num_blocks"])["points"]
    assert [point["num_blocks"] for point in points] == [4, 8, 16, 32]
    assert all(way["time_s"]["median"] > 0 for point in points for way in point["ways"].values())


def test_policy_table_has_every_workload_and_interval(tmp_path):
    """Workloads of too few prompts with figures of their own, rows of one workload under another's name."""
    toy, table, prompts = str(save_toy(tmp_path / "toy")), tmp_path / "policies.csv", tmp_path / "prompts.jsonl"
    categories = ["qa"] * 10 + ["writing", "math"]
    lines = (json.dumps({"id": f"{i}", "category": name, "prompt": f"{i}?"}) for i, name in enumerate(categories))
    prompts.write_text("\n".join(lines), encoding="utf-8")
    trace(toy, str(prompts), out=tmp_path / "trace", options=TraceOptions(max_new_tokens=3))
    result = result_here("policy_table.py", tmp_path / "trace", "--out", table, "--draws", "100")
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == result["n_rows"]
    assert list(result["tokens_and_prompts"]) == ["toy all", "toy qa"]
    sizes = {(row["workload"], int(row["n_tokens"]), int(row["n_prompts"])) for row in rows}
    assert {f"toy {name}": [tokens, prompts] for name, tokens, prompts in sizes} == result["tokens_and_prompts"]
    tuned = [row for row in rows if row["procedure"] == "bootstrap"]
    assert all(row["saved_blocks_low"] <= row["saved_blocks_high"] for row in tuned)
    assert not any(row["saved_blocks"] for row in rows if row["procedure"] != "bootstrap")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "keys"),
    [
        (
            "readout_cost.py",
            ("--tokens", "96", "--repeats", "1"),
            ("time_s", "ratio_to_products", "decisions_that_differ"),
        ),
        ("equivalence.py", ("--tokens", "60"), ("max_error", "ees", "ees_naive")),
    ],
)
def test_script_ends_with_one_json_object(script, arguments, keys):
    """A script broken by a change of the code it measures."""
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    result = result_of(command)
    assert {*keys, "environment", "n_tokens"} <= result.keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_of_a_large_model():
    """Weights held twice, or pulled into memory where they should wait on disk, or other figures from there.

    3 GiB, as torch and transformers alone take 0.45 GiB.
    """
    command = [sys.executable, str(BENCHMARKS / "large_model_memory.py"), "--gib", "3", "--cast"]
    ways = result_of(command)["ways"]
    assert [way["weights_on"] for way in ways.values()] == ["cpu", "cpu+disk", "cpu", "cpu+disk"]
    assert [way["bound"] for way in ways.values()] == [1.3, 0.5, 1.3, 0.5]
    for name, way in ways.items():
        assert way["peak_ratio"] < way["bound"], name
    assert ways["in memory"]["sha256"] == ways["on disk"]["sha256"]
    assert ways["cast, in memory"]["sha256"] == ways["cast, on disk"]["sha256"]


def test_gpu_readout_in_the_interpreter():
    """A script that only somebody with a GPU would find broken."""
    pytest.importorskip(
        "triton", reason="the kernels need triton, which exists for Linux: pip install 'exitbench[gpu]'"
    )
    command = [sys.executable, str(BENCHMARKS / "readout_gpu.py"), "--small"]
    result = result_of(command)
    assert {"n_tokens", "repeats", "environment"} <= result.keys()
    for shape in result["shapes"]:
        assert shape["ids"]["wrong"] == 0
        assert max(shape["max_relative_error"].values()) < 1e-5
        assert shape["extra_bytes"]["pass_1"] is None
        assert shape["extra_bytes_reason"]


def test_promises_are_counted_for_every_procedure():
    """A row that is missing, or a naive choice that looks as good as a certificate."""
    sizes = ("--repetitions", "50", "--prompts", "45", "--eps", "0.05", "--risks", "answer", "edge")
    result = result_here("certificate_coverage.py", *sizes)
    assert {"repetitions", "delta", "num_thresholds", "environment"} <= result.keys()
    kept = {(row["risk"], row["procedure"]): row["kept"] for row in result["rows"]}
    procedures = ("fixed-sequence", "bonferroni", "conformal", "naive")
    assert set(kept) == {(risk, procedure) for risk in ("answer", "edge") for procedure in procedures}
    for risk in ("answer", "edge"):
        assert kept[risk, "naive"] < 0.7 < 0.75 < kept[risk, "fixed-sequence"]


@pytest.mark.slow  # takes a processor for itself
def test_replay_speed():
    """A script broken by a change of the sweep; memory that grows with tokens times thresholds."""
    sizes = ("--tokens", "20000", "--depths", "8", "--thresholds", "100", "--repeats", "1")
    command = [sys.executable, str(BENCHMARKS / "replay_speed.py"), *sizes]
    result = result_of(command)
    assert (result["n_tokens"], result["n_depths"], result["n_thresholds"]) == (20_000, 8, 100)
    assert result["steps"]["sweep"]["time_s"]["median"] > 0
    assert result["steps"]["sweep"]["peak_mib"] < 20_000 * 100 * 8 / 2**20


@pytest.mark.slow  # a whole script, timings included
def test_engines_of_all_runtimes(tmp_path):
    """A runtime that is not installed and takes the others with it; times in relation to another runtime's greedy."""
    toy = str(save_toy(tmp_path))
    sizes = ("--prompts", "2", "--max-new-tokens", "6", "--repeats", "1")
    command = [sys.executable, str(BENCHMARKS / "engines.py"), "--model", toy, *sizes]
    printed = printed_by(command)
    result = json.loads(printed.splitlines()[-1])
    assert (result["n_prompts"], result["repeats"]) == (2, 1)
    rows = {name: [row for row in result["rows"] if row["engine"] == name] for name in ("exitbench", "economize")}
    drafts = [row for row in result["rows"] if row["engine"] == "transformers-early-exit"]
    assert [row["setting"] for row in drafts] == ["depth 1", "depth 2", "depth 3"]
    for row in (*drafts, *rows["exitbench"]):
        assert row["reason"] is None
        assert row["timing"]["ratio"]["median"] > 0
        assert 0 <= row["identical_tokens"] <= 1
        assert (row["first_divergence_mean"] is None) == (row["identical_answers"] == 2)
    assert all(row["identical_tokens"] == 1 for row in (*drafts, rows["exitbench"][0]))
    assert rows["exitbench"][0]["timing"]["ratio"] == {"median": 1, "q10": 1, "q90": 1, "n": 1}
    if find_spec("economize") is None:
        (row,) = rows["economize"]
        assert "exitbench[economize]" in row["reason"]
        assert "exitbench[economize]" in printed
    else:
        assert len(rows["economize"]) == 9
    assert result["greedy_to_transformers"]["exitbench"]["identical_answers"] == 2


@pytest.mark.slow  # a whole script, timings included
def test_projected_decoding_has_every_cell(tmp_path):
    """Predictions that need what was measured; cells that vanish; a target counted over other cells than are shown."""
    toy = str(save_toy(tmp_path, num_blocks=6))
    sizes = ("--max-new-tokens", "6", "--repeats", "1")
    command = [sys.executable, str(BENCHMARKS / "decode_prediction.py"), "--models", toy, *sizes]
    result = result_of(command)
    cells = [row for row in result["rows"] if row["policy"] != "never"]
    assert len(cells) == result["num_cells"] == 8
    assert result["num_close"] == sum(abs(row["projected ms"] / row["measured ms"] - 1) <= 0.1 for row in cells)
    for row in result["rows"]:
        assert row["projected ms"] > 0 < row["measured ms"]
        assert row["verdict"] in ("slower", "faster", "unclear")
        assert row["policy"] != "fixed" or row["depth replayed"] == 4


@pytest.mark.slow
def test_a_study_on_ray_has_every_way():
    """Workers of a cluster that stay behind, or a way that measured less than the others."""
    pytest.importorskip("ray")
    command = [sys.executable, str(BENCHMARKS / "study_ray.py"), "--models", "2", "--blocks", "2", "--documents", "3"]
    result = result_of(command)
    assert [way["way"] for way in result["ways"]] == ["here", "ray, workers: 1", "ray, workers: 2"]
    assert all(0 < way["busy_share"] < 1 for way in result["ways"])
    assert result["two_to_one"] == pytest.approx(result["ways"][2]["wall_s"] / result["ways"][1]["wall_s"])
