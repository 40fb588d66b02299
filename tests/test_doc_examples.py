"""Every fenced block of the documents is run, or at least read by what it is written for (see `documents`)."""

import io
import re
import shutil
import socket
import tomllib
from contextlib import redirect_stdout
from pathlib import Path

import duckdb
import pytest
import torch
import typer
from lm_eval._cli import HarnessCLI

from command_line import exitbench
from documents import DOCUMENTS, ROOT, blocks_of, flags_of, name_of, shell_lines
from exitbench.api import TraceOptions, policies_named, save_policies, study, trace
from exitbench.cli import app
from exitbench.models.toy import save_toy
from exitbench.study.spec import read_spec
from exitbench.workloads import WORKLOADS, load_workload
from toy_study import CONTROL, make_place, spec_of, write_spec

BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
SHELL = [block for block in BLOCKS if block.info.partition(" ")[0] == "bash"]
RUNNABLE = [path for path in DOCUMENTS if any(block.info == "python run" for block in blocks_of(path))]
COMMANDS = typer.main.get_command(app).commands
FENCES = r"python( run)?|text( output)?|bash( needs \S.*)?|yaml|toml|sql"


def where(block):
    return block.place


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("an example tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.set_num_threads(1)  # toys are too small for more, and tests share the cores


def test_every_block_has_a_test():
    """A block of a kind that no test looks at: it will be wrong some day and nobody will know."""
    assert {"python run", "python", "bash", "yaml", "sql"} <= {block.info for block in BLOCKS}
    assert [block.place for block in BLOCKS if not re.fullmatch(FENCES, block.info)] == []


@pytest.mark.parametrize("document", RUNNABLE, ids=name_of)
def test_python_runs(document, offline, tmp_path, monkeypatch):
    """An example that fails, needs the network, or prints something else than the document says."""
    monkeypatch.chdir(tmp_path)
    namespace, printed = {"__name__": "example"}, ""
    for block in blocks_of(document):
        if block.info == "python run":
            out = io.StringIO()
            # Leading newlines put the document's own line numbers into tracebacks.
            code = compile("\n" * (block.line - 1) + block.content, name_of(document), "exec")
            with redirect_stdout(out):
                exec(code, namespace)  # noqa: S102, the project's own text
            printed = out.getvalue()
        elif block.info == "text output":
            assert printed == block.content, block.place


def test_python_that_is_not_run_is_quoted():
    """Python in a document that no test runs and no source contains."""
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    quoted = [block for block in BLOCKS if block.info == "python"]
    assert [block.place for block in quoted if not any(block.content in text for text in sources)] == []


def test_queries_run(offline, tmp_path, monkeypatch):
    """A query on a column that traces do not have."""
    monkeypatch.chdir(tmp_path)
    trace(str(save_toy(Path("toy"))), "mini", out="trace", options=TraceOptions(limit=6, max_new_tokens=4))
    for block in BLOCKS:
        if block.info == "sql":
            assert duckdb.sql(block.content).fetchall(), block.place


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.info == "yaml"], ids=where)
def test_specs_are_read(block, tmp_path):
    """A key of a spec, or a value, that studies refuse."""
    rest = {"name": "quoted", "workloads": "[mini]", "models": "[toy]"}
    given = "".join(f"{key}: {value}\n" for key, value in rest.items() if f"{key}:" not in block.content)
    (tmp_path / "spec.yaml").write_text(given + block.content)
    read_spec(tmp_path / "spec.yaml")


def read_by_its_parser(words):
    """Let a command's own parser read a line; nothing is run."""
    if words[0] == "--version":
        return
    if words[0] == "lm-eval":
        HarnessCLI()._parser.parse_args(["run", *words[1:]])
    else:
        COMMANDS[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize("block", SHELL, ids=where)
def test_commands_can_be_read(block):
    """A command, an option, a script or an extra that was renamed, and is still recommended."""
    for words in shell_lines(block):
        match words:
            case ["exitbench", *arguments]:
                read_by_its_parser(arguments)
            case ["make", *targets]:
                known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
                assert set(targets) <= set(known)
            case ["python" | ".venv/bin/python", script, *arguments]:
                flags = {word for word in arguments if word.startswith("--")}
                assert flags <= flags_of(ROOT / script), words
            case ["studies/zoo.sh", preset, *_]:
                assert f'"{preset}"' in (ROOT / "studies/zoo_families.py").read_text()
            case ["pip", "install", what]:
                extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
                assert what == "." or re.fullmatch(r"(?:exitbench|\.)\[([\w-]+)\]", what)[1] in extras
            case _:
                assert words[:2] == ["ray", "start"], words


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder in which the names that the documents use are there: models, prompts, traces, studies, policies."""
    place = make_place(tmp_path_factory.mktemp("world"))
    for name in ("MODEL", "checkpoint", "Qwen/Qwen3-0.6B"):
        save_toy(place / name, num_blocks=26)  # the documents name depths up to 25
    for name in ("book.txt", "FILE.txt"):
        (place / name).write_text("\n\n".join(f"A sentence about {i} and {i * i}." for i in range(120)))
    traced = trace(str(place / "MODEL"), few(), out=place / "DIR", options=TraceOptions(max_new_tokens=4))
    saved = save_policies(traced, policies_named(traced, ["top1-prob"], probes=["every-4"]), place / "policies")
    (place / "POLICIES").mkdir()
    shutil.copy(saved[0], place / "POLICIES/FILE.json")
    tagged = [{"model": f"toy-{i}", "tags": {"size": size}} for i, size in enumerate(("small", "large"))]
    spec = spec_of(workloads=["prompts.jsonl"], models=tagged, finding=CONTROL)
    for name in ("SPEC.yaml", "kinds.yaml"):
        write_spec(place, spec, name)
    for name in ("DIR1", "DIR2", "out/size"):
        study(write_spec(place, spec | {"name": name.lower().replace("/", "-")}), out=place / name)
    return place


def few():
    return load_workload("mini").limited(12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [block for block in SHELL if block.info == "bash" and "exitbench " in block.content], ids=where
)
def test_commands_run(block, world, offline, tmp_path, monkeypatch):
    """A line that its parser takes and the command refuses, alone or after the lines before it."""
    place = Path(shutil.copytree(world, tmp_path / "place"))
    monkeypatch.chdir(place)
    prompts = few()
    monkeypatch.setitem(WORKLOADS._entries, "mini", lambda: prompts)
    # 'exitbench run' alone, on the demo model, is what 'make demo' does.
    lines = [words[1:] for words in shell_lines(block) if words[0] == "exitbench" and words[1:] != ["run"]]
    for arguments in lines:
        if "--out" in arguments:  # an old trace of other settings would be refused
            shutil.rmtree(arguments[arguments.index("--out") + 1], ignore_errors=True)
    for arguments in lines:
        done = exitbench(*arguments)
        assert done.code == 0, f"{block.place}: {' '.join(arguments)}: {done.err[-2000:]}"
