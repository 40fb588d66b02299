"""What is checked of a finding before anything is measured: that it can be judged, and that it is the one of before.

A finding is fixed before there are results, so a slip of the pen that is met after days of measuring cannot be mended.
Checked are where it is judged, the figures it names against those that the study makes, and its factors against what is
known of the models before they are loaded. What only the weights tell is left to the judging.

What it names of a model is as fixed as itself, once that model was measured: its label, by which rows are grouped, its
step, by which the last checkpoint is told, and the factors. Other words may change.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import Any, get_args

from exitbench.errors import StudyError
from exitbench.models.shape import ModelKind
from exitbench.study.cells import Cell
from exitbench.study.contrasts import contrasts
from exitbench.study.figures import Several, figures_made
from exitbench.study.finding_spec import FACTORS, TAG, FigureRef, FindingSpec, GroupSpec, hint, is_factor
from exitbench.study.folder import StudyFolder
from exitbench.study.planned import read_plan
from exitbench.study.roll import falls_short
from exitbench.study.rows import Row
from exitbench.study.spec import Stage, StudySpec
from exitbench.study.units import Judged, Unit, judged_rows, units

__all__ = ["check_finding", "check_unmoved"]

_FROM_WEIGHTS = (
    *("family", "kind", "total_params_b", "active_params_b", "num_blocks", "hidden_size", "vocab_size", "tied_head"),
)
"""Columns that may be known only once a model is loaded."""
_WORDS = ("family", "kind", "stage")
"""Columns that are no numbers."""
_GROUPS = {"kind": get_args(ModelKind), "stage": get_args(Stage), "tied_head": ("true", "false")}
"""Factors that have no other groups."""
_LIKE = 0.75
"""How alike two names of groups are, from 0 to 1, if one of them is taken for a slip of the pen."""
_PLACE = ("variant", "target", "at")
"""Columns that tell rows of one figure apart."""


def check_finding(spec: StudySpec, planned: Sequence[Row]) -> None:
    """Refuse a finding that could not be judged.

    Args:
        spec: of the study; nothing is checked where it has no finding.
        planned: a row for each of its cells, with what is known of the model before it is loaded.

    Raises:
        StudyError: what it asks for will not be there; names the nearest that will.
        ReportError: it does not say where it is judged, or one model would be judged in two ways.
    """
    if (finding := spec.finding) is None:
        return
    judged, kept = judged_rows(planned, _judged_on(finding))
    for where, ref in _refs(finding):
        if why := _why_no_figure(where, ref, spec, judged.on):
            raise StudyError(f"finding: {where}: {why}")
    models = units(kept)
    for why in chain(_wrong_factors(finding, models), _compares_nothing(finding, models)):
        raise StudyError(f"finding: {why}")


def check_unmoved(spec: StudySpec, cells: Sequence[Cell], folder: StudyFolder) -> None:
    """Refuse words of the spec that would move what its finding makes of models that were measured.

    Args:
        spec: of the study; nothing is checked where it has no finding.
        cells: of the study.
        folder: of its results.

    Raises:
        StudyError: such a word; says what it was and what it is.
    """
    if spec.finding is None:
        return
    for cell in cells:
        if not folder.is_measured(cell.id):
            continue
        there, now = folder.words(cell)
        for name in ("model", "step", *spec.finding.factors):
            if (old := _word(there, name)) != (new := _word(now, name)):
                shown = "label" if name == "model" else name
                was, is_ = ("not given" if word is None else word for word in (old, new))
                raise StudyError(
                    f"{shown} of {there['model']} was {was} when it was measured and is {is_} now, and the finding "
                    "goes by it, which is fixed before there are results; use another --out folder"
                )
    _refuse_gone(spec.finding, cells, folder)


def _refuse_gone(finding: FindingSpec, cells: Sequence[Cell], folder: StudyFolder) -> None:
    """Refuse that a model is judged at another checkpoint, since the one that was measured is gone."""
    if (before := read_plan(folder.path)) is None:
        return
    planned = {
        (cell.model.label, cell.model.revision, cell.prompts.workload.name, cell.prompts.on, cell.readout)
        for cell in cells
    }
    for unit in units(judged_rows([one.row for one in before.cells], _judged_on(finding))[1]):
        for row in unit.rows:
            what = (row.model, row.revision, row.workload, row.on, row.readout)
            if what not in planned and folder.is_measured(row.cell):
                at = "" if row.revision is None else f" at {row.revision}"
                raise StudyError(
                    f"{row.model}{at} was measured and is no longer there; put it back, or use another --out folder"
                )


def _judged_on(finding: FindingSpec) -> Judged:
    return Judged(workload=finding.workload, on=finding.on, readout=finding.readout)


def _word(words: Mapping[str, Any], name: str) -> Any:
    return words["tags"].get(name.removeprefix(TAG)) if name.startswith(TAG) else words[name]


def _refs(finding: FindingSpec) -> Iterator[tuple[str, FigureRef]]:
    """The figures that a finding names, each with the key that names it."""
    yield "primary", finding.primary
    for ref in finding.sensitivity:
        yield "sensitivity", ref
    for name in finding.covariates:
        if not is_factor(name):
            yield "covariates", FigureRef(figure=name)


def _why_no_figure(where: str, ref: FigureRef, spec: StudySpec, on: str | None) -> str:
    """Why there will be no such figure, or not one of it; nothing where there will be."""
    name, made = ref.figure, figures_made(spec.policies)
    asked = {*spec.measure, *(["policies"] if spec.policies else [])}
    group = next((group for group, figures in made.items() if name in figures), None)
    if group is None:
        known = [one for group in asked for one, rows in made[group].items() if not rows.by_depth and on in rows.on]
        return f"unknown figure {name!r}; {hint(name, sorted(known) + list(FACTORS if where == 'covariates' else ()))}"
    if group not in asked:
        add = "give 'policies'" if group == "policies" else f"add {group!r} to 'measure'"
        return f"{name} is not measured by this study; {add}"
    rows = made[group][name]
    if rows.by_depth:
        return f"{name} is a curve by depth, expected one number a model, such as 'ees'"
    if on not in rows.on:
        only = f"only on {' and '.join(rows.on)}" if rows.on else "in no study"
        return f"{name} has a value {only}, and the finding is judged on {on}; take another"
    return _why_no_row(where, ref, rows)


def _why_no_row(where: str, ref: FigureRef, rows: Several) -> str:
    """Why a figure that there is has no row of that variant, target or place, or several."""
    for column in _PLACE:
        given, there = getattr(ref, column), getattr(rows, column)
        if there is None:
            continue
        if given is not None and given not in there:
            known = _nearest(given, there) if there else "it has none: leave that out"
            return f"{ref.figure} is not measured with {column} {given!r}; {known}"
    several = [column for column in _PLACE if getattr(rows, column) != () and getattr(ref, column) is None]
    if where == "sensitivity" or not several:
        return ""
    if where == "covariates":
        return f"{ref.figure} stands for several numbers a model; take another"
    return f"{ref.figure} stands for several numbers a model; say of which {' and '.join(several)}"


def _nearest(given: str | float, there: Sequence[Any]) -> str:
    if isinstance(given, str):
        return hint(given, there)
    return f"did you mean {min(there, key=lambda one: abs(one - given)):g}?"


def _wrong_factors(finding: FindingSpec, models: Sequence[Unit]) -> Iterator[str]:
    """What is wrong with the factors of a finding, given what is known of the models so far."""
    tags = sorted({TAG + tag for model in models for tag in model.rows[0].tags})
    known = {name: [model.text(name) for model in models] for name in finding.factors}
    for name, values in known.items():
        if any(value is not None for value in values):
            continue
        if name.startswith(TAG):
            yield f"no model has {name}; {hint(name, tags) if tags else 'give it under tags of the models'}"
        elif name not in _FROM_WEIGHTS:
            yield f"{name} is known of no model; give it under 'facts' of the models"
    for name in finding.numbers:
        words = {text for model in models if (text := model.text(name)) is not None and model.number(name) is None}
        if words or name in _WORDS:
            yield f"{name} must be a number of each model, got {', '.join(sorted(words)) or 'none'}"
    if isinstance(finding, GroupSpec):
        groups = known[finding.factor]
        later = finding.factor in _FROM_WEIGHTS and None in groups
        possible = _GROUPS.get(finding.factor) if later else sorted({group for group in groups if group is not None})
        for group in (finding.reference, *finding.against):
            if possible is not None and group not in possible:
                yield f"no model has {finding.factor} {group!r}; {hint(group, possible)}"
    yield from _slips(finding, models)


def _slips(finding: FindingSpec, models: Sequence[Unit]) -> Iterator[str]:
    """Tags of single models that look like slips of the pen, by which such a model would be left out for ever.

    A model that is not to be compared has none of the tags that say with which ones, or another group.
    """
    tags = {name.removeprefix(TAG) for name in finding.factors if name.startswith(TAG)}
    chosen = {name.removeprefix(TAG) for name in (finding.factor, *finding.alike) if name.startswith(TAG)}
    groups = (finding.reference, *finding.against) if isinstance(finding, GroupSpec) else ()
    for model in models:
        group, there = model.text(finding.factor), set(model.rows[0].tags)
        if groups and group is not None and group not in groups:
            near = get_close_matches(group, groups, n=1, cutoff=_LIKE)
            if near and finding.factor.startswith(TAG):
                yield f"{finding.factor} of {model.label} is {group!r}; did you mean {near[0]!r}?"
            continue
        for name in sorted(tags - there):
            known = {tag for other in models if name in other.rows[0].tags for tag in other.rows[0].tags}
            near = get_close_matches(name, there - known, n=1)
            if near or not chosen or chosen & there:
                mend = f"did you mean {TAG}{near[0]}?" if near else "give it under its tags"
                yield f"{model.label} has no {TAG}{name}; {mend}"


def _compares_nothing(finding: FindingSpec, models: Sequence[Unit]) -> Iterator[str]:
    """Comparisons that will have no models, as far as that is known."""
    decisive = (finding.factor, *finding.alike, *(needed.factor for needed in finding.require))
    if any(model.text(name) is None for name in decisive if name in _FROM_WEIGHTS for model in models):
        return
    if isinstance(finding, GroupSpec) and finding.pair is not None and all(m.pair(finding) is None for m in models):
        yield f"{models[0].label}: {models[0].no_pair(finding)}"
    reaching = [model for model in models if falls_short(model, finding) is None]
    shared = [f"are alike in {name}" for name in finding.alike]
    wanted = [f"differ in {finding.factor}", *shared, *(["reach what is required"] if finding.require else [])]
    for contrast in contrasts(finding, reaching):
        if contrast.judged and not contrast.comparable:
            yield f"{contrast.name} would compare nothing: no two models {' and '.join(wanted)}"
