"""One self-contained HTML page: opens from disk, fetches nothing, runs nothing but its own two scripts.

The template engine escapes everything; data for the scripts travels as JSON in inert script elements of type
application/json. The page's security policy forbids all network access and names its scripts by their
hashes, so that text that slipped through as markup could still not run. Vega's expressions are interpreted,
never compiled (no `eval`).
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import altair
import vl_convert
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from exitbench import files as disk
from exitbench.errors import ReportError
from exitbench.report import figures
from exitbench.report.cautions import cautions
from exitbench.report.chapters import Chapter, chapters, opening_chart
from exitbench.report.chart_parts import Chart
from exitbench.report.explorer import explorer_payload
from exitbench.report.glossary import GLOSSARY
from exitbench.report.pays import pays
from exitbench.report.policy_charts import PolicyChapter, policy_chapter
from exitbench.report.result import Result
from exitbench.report.text import json_for_script, visible
from exitbench.score.scorecard import ScoreCard

__all__ = ["write_report"]

_EXPLORER_BUDGET_BYTES = 10_000_000
"""For all explorers of a page together; the charts' library takes 1 MB more."""


@dataclass(frozen=True, kw_only=True)
class _Section:
    """One result as the template reads it."""

    key: str
    """Prefix of the section's element ids."""
    card: ScoreCard
    subject: str
    headline: tuple[figures.Line, ...]
    second_screen: tuple[figures.Line, ...]
    pays: tuple[str, ...]
    cautions: tuple[str, ...]
    opening: Chart
    chapters: tuple[Chapter, ...]
    policies: PolicyChapter | None
    failures: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    explorer: dict[str, Any] | None


def write_report(results: Sequence[Result], out: Path) -> Path:
    """Write one page for all results and return its path.

    Args:
        results: in the order they are shown; several get a table of comparison first.
        out: the page's file name, written atomically.

    Raises:
        ReportError: no results.
        ExitbenchError: the file cannot be written.
    """
    if not results:
        raise ReportError("no results to report; give at least one folder with a score.json")
    budget = _EXPLORER_BUDGET_BYTES // len(results)
    sections = [_section(f"r{number}", result, budget) for number, result in enumerate(results)]
    disk.write_text(out, _render(sections))
    return out


def _section(key: str, result: Result, budget_bytes: int) -> _Section:
    card, trace = result.card, result.trace
    return _Section(
        key=key,
        card=card,
        subject=figures.subject(card),
        headline=figures.headline(card),
        second_screen=figures.second_screen(card),
        pays=pays(card),
        cautions=cautions(card),
        opening=opening_chart(card),
        chapters=chapters(card),
        policies=None if result.replay is None else policy_chapter(result.replay),
        failures=() if trace is None else tuple((f.sample_id, f.reason) for f in trace.failures),
        provenance=_provenance(card),
        explorer=None if trace is None else explorer_payload(trace, budget_bytes=budget_bytes),
    )


def _render(sections: list[_Section]) -> str:
    scripts = [_chart_library(), _asset("page.js")]
    assert not any("</script" in script.lower() for script in scripts)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = visible
    environment.globals |= {
        "interval_text": figures.interval_text,
        "level_text": figures.level_text,
        "value_text": figures.value_text,
        "Kind": figures.Kind,
        "embed": lambda value: Markup(json_for_script(value)),  # noqa: S704 -- escaped there
    }
    return environment.from_string(_asset("page.html.j2")).render(
        sections=sections,
        comparison=list(zip(sections, figures.compared([section.card for section in sections]), strict=True)),
        glossary=GLOSSARY,
        css=Markup(_asset("page.css")),  # noqa: S704 -- our own files, as are the scripts
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        script_hashes=[_csp_hash(script) for script in scripts],
    )


@cache
def _chart_library() -> str:
    # It must speak the grammar that the charts were written in, e.g. "6.4" of "v6.4.1".
    grammar = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=grammar)


def _provenance(card: ScoreCard) -> tuple[tuple[str, str], ...]:
    model, shape, settings, workload = card.model, card.shape, card.settings, card.workload
    rows = {
        "model": f"{model.name} (asked for as {model.source}; type {model.model_type})",
        "revision": model.revision or "n/a",
        "weights, sha256": model.weights_sha256,
        "quantisation": model.quantisation or "none",
        "licence": model.licence or "n/a",
        "size": f"{shape.num_blocks} blocks, width {shape.hidden_size}, vocabulary {shape.vocab_size:,}, "
        f"{shape.num_parameters:,} parameters",
        "workload": f"{workload.name}, version {workload.version}, {workload.num_samples} samples",
        "workload, sha256": workload.sha256,
        **{f"setting: {name}": "n/a" if value is None else str(value) for name, value in settings},
        **{f"library: {name}": version for name, version in sorted(card.libraries.items())},
        **{f"machine: {name}": str(value) for name, value in card.environment.items()},
        "trace made": card.created,
        "command": card.command,
        "intervals": f"{figures.level_text(card)}, {card.draws} bootstrap draws, seed {card.seed}",
    }
    return tuple(rows.items())


def _asset(name: str) -> str:
    return files("exitbench.report").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
