"""How a page is made from a template: offline, escaped, and under a policy that lets nothing but its own scripts run.

The template engine escapes everything; data for the scripts travels as JSON in inert script elements of type
application/json. A page's security policy forbids all network access and names its scripts by their hashes, so that
text that slipped through as markup could still not run. Vega's expressions are interpreted, never compiled (no `eval`).

Non-goals: what stands on a page; see `page` and `study`.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

import altair
import vl_convert
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from exitbench.report import figures
from exitbench.report.text import json_for_script, visible

__all__ = ["render"]


def render(template: str, *, scripts: tuple[str, ...], **values: Any) -> str:
    """The text of a page.

    Args:
        template: file name of the template, in this package.
        scripts: file names of the page's own scripts, in this package, in the order in which they run, after that of
            the colours, which runs before anything is painted, and the charts' library.
        values: what the template reads.
    """
    first, *running = [_asset("scheme.js"), _chart_library(), *map(_asset, scripts)]
    assert not any("</script" in script.lower() for script in (first, *running))
    return (
        _environment()
        .get_template(template)
        .render(
            css=Markup(_asset("page.css")),  # noqa: S704 -- our own files, as are the scripts
            dark_css=Markup(_asset("dark.css")),  # noqa: S704
            scheme_script=Markup(first),  # noqa: S704
            scripts=[Markup(script) for script in running],  # noqa: S704
            script_hashes=[_csp_hash(script) for script in (first, *running)],
            **values,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = visible
    environment.globals |= {
        "interval_text": figures.interval_text,
        "level_text": figures.level_text,
        "value_text": figures.value_text,
        "Kind": figures.Kind,
        "embed": lambda value: Markup(json_for_script(value)),  # noqa: S704 -- escaped there
    }
    return environment


@cache
def _chart_library() -> str:
    # It must speak the grammar that the charts were written in, e.g. "6.4" of "v6.4.1".
    grammar = ".".join(altair.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=grammar)


def _asset(name: str) -> str:
    return files("exitbench.report").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
