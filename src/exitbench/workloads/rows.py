"""From one JSON object to one sample, in the three formats that are understood.

- ours: `prompt` (a string) or `turns` (strings), and optionally `id`, `category`, `reference`;
- Spec-Bench questions: `question_id` (by which they are known), `category`, `turns`, optionally `reference`;
- texts: `text`, and optionally `id`, `category`.

An unknown key is refused rather than ignored: a mistyped `catgory` would silently merge all categories.
"""

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from exitbench.errors import WorkloadError
from exitbench.workloads.workload import Kind, Sample

__all__ = ["DEFAULT_CATEGORY", "KIND_OF_FORMAT", "Format", "format_of", "sample_from_row"]

Format = Literal["prompts", "Spec-Bench questions", "texts"]

DEFAULT_CATEGORY = "all"
KIND_OF_FORMAT: dict[Format, Kind] = {
    "prompts": "prompts",
    "Spec-Bench questions": "prompts",
    "texts": "text",
}

_KEYS: dict[Format, tuple[str, ...]] = {
    "prompts": ("prompt", "turns", "id", "category", "reference"),
    "Spec-Bench questions": ("question_id", "category", "turns", "reference"),
    "texts": ("text", "id", "category"),
}


def format_of(row: Mapping[str, Any]) -> Format:
    """Tell the format of a row by its keys."""
    if "question_id" in row:
        return "Spec-Bench questions"
    return "texts" if "text" in row else "prompts"


def sample_from_row(row: Mapping[str, Any], *, default_id: str) -> Sample:
    """Build the sample that a row describes.

    Args:
        row: decoded JSON object in one of the three formats.
        default_id: id of a row without one.

    Raises:
        WorkloadError: an unknown or missing key, or a value of the wrong type.
    """
    row_format = format_of(row)
    _refuse_unknown_keys(row, row_format)
    if row_format == "Spec-Bench questions":
        turns = _turns(row)
        return Sample(
            id=_id(row, "question_id"),
            category=_string(row, "category"),
            turns=turns,
            reference=_spec_bench_reference(row.get("reference"), num_turns=len(turns)),
        )
    return Sample(
        id=_id(row, "id") if "id" in row else default_id,
        category=_string(row, "category") if "category" in row else DEFAULT_CATEGORY,
        turns=(_string(row, "text"),) if row_format == "texts" else _turns(row),
        reference=_string(row, "reference") if row.get("reference") is not None else None,
    )


def _refuse_unknown_keys(row: Mapping[str, Any], row_format: Format) -> None:
    known = _KEYS[row_format]
    for key in row:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"{row_format} have: {', '.join(known)}"
            raise WorkloadError(f"unknown key {_short(key)}; {hint}")


def _turns(row: Mapping[str, Any]) -> tuple[str, ...]:
    if ("prompt" in row) == ("turns" in row):
        found = "both 'prompt' and 'turns'" if "prompt" in row else "none of 'prompt', 'turns' and 'text'"
        raise WorkloadError(f"a row has {found}; give exactly one of them")
    if "prompt" in row:
        return (_string(row, "prompt"),)
    turns = row["turns"]
    if not isinstance(turns, list) or not all(isinstance(turn, str) for turn in turns):
        raise WorkloadError(f"'turns' is {_short(turns)}; expected a list of strings")
    return tuple(turns)


def _string(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        found = _short(value) if key in row else "missing"
        raise WorkloadError(f"{key!r} is {found}; expected a string")
    return value


def _id(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise WorkloadError(f"{key!r} is {_short(value)}; expected a string or a whole number")
    return str(value)


def _spec_bench_reference(value: Any, *, num_turns: int) -> str | None:
    """Return the reference where there is exactly one, else None.

    Spec-Bench gives one reference a turn, and in its `rag` part a list of alternatives in place of each. A
    sample has room for one: picking one turn's, or one alternative, would claim more than the file says.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise WorkloadError(f"'reference' is {_short(value)}; Spec-Bench questions have a list here")
    if num_turns > 1 or len(value) != 1:
        return None
    only = value[0]
    if isinstance(only, list):
        if len(only) != 1:
            return None
        only = only[0]
    if not isinstance(only, str):
        raise WorkloadError(f"'reference' holds {_short(only)}; expected strings")
    return only if only.strip() else None


def _short(value: Any) -> str:
    """Show a value in a message of one line."""
    shown = ascii(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
