"""The direction in which data flows is the direction in which packages import, and modules keep to the house's form."""

import ast
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "exitbench"
# A package imports only from its own and from earlier lines.
ORDER = (
    ("errors", "plain", "sizes"),
    ("registry", "config", "env", "files", "progress"),
    ("models", "workloads"),
    ("signals",),
    ("lens",),
    ("trace",),
    ("stats",),
    ("representation",),
    ("policies",),
    ("replay",),
    ("score",),
    ("decode",),
    ("profiling",),
    ("study",),
    ("report",),
    ("api",),
    ("harness",),
    ("matrix",),
    ("testing",),
    ("options",),
    ("cli",),
    ("__main__",),
)
LEVEL = {package: level for level, packages in enumerate(ORDER) for package in packages}
MODULES = sorted(SOURCE.rglob("*.py"))
# What may be read where no model is: scoring and reports.
WITHOUT_TORCH = (
    *("exitbench", "exitbench.score", "exitbench.report", "exitbench.trace.store", "exitbench.options"),
    *("exitbench.cli", "exitbench.replay.assemble", "exitbench.policies.listing", "exitbench.models.shape"),
    *("exitbench.models.catalogue", "exitbench.stats.certify", "exitbench.stats.answers"),
    *("exitbench.replay.cost", "exitbench.replay.times", "exitbench.stats", "exitbench.policies"),
    *("exitbench.replay.crossfit", "exitbench.replay.frontier", "exitbench.representation"),
    *("exitbench.decode.result", "exitbench.decode.sandbox", "exitbench.report.decoding", "exitbench.study.spec"),
    *("exitbench.study.rows", "exitbench.study.findings", "exitbench.study.cases", "exitbench.report.finding"),
    "exitbench.report.study_folders",
)


def _name(path):
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def _package(name):
    """The part of a dotted name below `exitbench` that has a place in the order; "" for the root itself."""
    return name.split(".")[0] if name != "__init__" else ""


def _imported(path):
    """Dotted names below `exitbench` that a module imports, wherever in the module it does."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{_name(path)} imports relatively"
            found += [node.module] if node.module != "exitbench" else [f"exitbench.{a.name}" for a in node.names]
    return [name.removeprefix("exitbench.") for name in found if name.startswith("exitbench.")]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_only_from_the_left(path):
    """A cycle in the making: a metric that needs the model, a model that knows the report."""
    own = _package(_name(path))
    for imported in _imported(path):
        if imported == "__version__":
            continue
        package = _package(imported)
        assert package in LEVEL, f"{package} has no place in the order of packages"
        if own == "":
            pytest.fail(f"exitbench/__init__.py imports {imported}: importing the package must cost nothing")
        same_package = package == own
        assert same_package or LEVEL[package] < LEVEL[own], f"{_name(path)} imports exitbench.{imported}"


def test_every_package_has_a_place():
    """A new package that nobody ordered, and that may thus import anything."""
    packages = {_package(_name(path)) for path in MODULES} - {""}
    assert packages <= LEVEL.keys()
    assert all(set(left).isdisjoint(right) for left, right in pairwise(ORDER))


def in_a_new_process(code, *arguments):
    """Run code where nothing is imported yet; what it leaves with is told as an error."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]


def test_reading_results_needs_no_torch():
    """Seconds of start-up, and a deep-learning library, only to read a score."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'transformers', 'tokenizers', 'gguf'}.intersection(sys.modules)\n"
        "    if heavy:\n"
        "        sys.exit(f'{name} imports {sorted(heavy)}')\n"
    )
    in_a_new_process(code, *WITHOUT_TORCH)


def test_importing_loads_no_plugin_and_no_harness():
    """Broken third-party code that breaks `import exitbench` itself; an extra that every command needs."""
    code = (
        "import importlib.metadata as m, sys\n"
        "real = m.entry_points\n"
        "def refuse(**wanted):\n"
        "    assert not wanted.get('group', '').startswith('exitbench'), wanted\n"
        "    return real(**wanted)\n"
        "m.entry_points = refuse\n"
        "import exitbench.registry, exitbench.workloads, exitbench.signals, exitbench.policies\n"
        "import exitbench.api, exitbench.cli, exitbench.harness.arguments\n"
        "sys.exit(', '.join({'lm_eval', 'datasets'}.intersection(sys.modules)) or None)"
    )
    in_a_new_process(code)


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_form_of_a_module(path):
    """A module without purpose or public names, or one too long to be read in one go."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no docstring"
    assert text.isascii(), "plain ASCII only"
    assert len(text.splitlines()) <= 400
    if path.name == "__init__.py" and path.parent.name in ("trace", "models", "decode", "study"):
        return  # nothing but the docstring, so that a result can be read without what makes it
    assigned = [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    assert "__all__" in assigned


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_functions_fit_a_screen(path):
    """A function that has grown into a program."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 75, f"{node.name} has {node.end_lineno - node.lineno} lines"


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_public_names_exist(path):
    """A name in `__all__` that was renamed or moved away."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined, public = set(), []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            defined.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            defined.update(names)
            if "__all__" in names:
                public = ast.literal_eval(node.value)
    assert set(public) <= defined, set(public) - defined
