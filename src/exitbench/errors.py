"""What exitbench says when something is wrong on the user's side.

Every message is one line: what is wrong, what was given, what was expected, what to do next. The command line prints
it and exits with 2. Broken invariants of our own are `assert`s, not these.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pydantic

__all__ = [
    "CorruptTraceError",
    "CostError",
    "DecodeError",
    "ExitbenchError",
    "LensError",
    "ModelError",
    "OtherTraceError",
    "OutOfMemoryError",
    "ReportError",
    "StudyError",
    "TraceError",
    "UnknownNameError",
    "ValidationError",
    "WorkloadError",
    "first_problem",
]


class ExitbenchError(Exception):
    """A mistake in what the user asked for or gave; base of all errors meant for people."""


class UnknownNameError(ExitbenchError):
    """A name that no registry knows."""


class ModelError(ExitbenchError):
    """A model that cannot be found, fetched or loaded."""


class ValidationError(ModelError):
    """A model whose adapter could not be proved right; it is refused rather than measured wrongly."""


class WorkloadError(ExitbenchError):
    """A workload that cannot be found, read or used in the mode asked for."""


class LensError(ExitbenchError):
    """A tuned lens that cannot be trained, written or read, or that belongs to another model."""


class TraceError(ExitbenchError):
    """A trace that cannot be written, resumed or read."""


class CorruptTraceError(TraceError):
    """A part file of a trace that cannot be read."""


class OtherTraceError(TraceError):
    """A trace folder that holds the trace of something else, or no trace."""


class CostError(ExitbenchError):
    """A cost that cannot be reckoned, since a count or a measured time is missing."""


class DecodeError(ExitbenchError):
    """Decoding that a model, a policy or a setting does not allow."""


class OutOfMemoryError(ExitbenchError):
    """Work that does not fit the memory there is, however it is cut up."""


class ReportError(ExitbenchError):
    """Results that cannot be turned into a report."""


class StudyError(ExitbenchError):
    """A study whose spec, or folder of results, cannot be used."""


def first_problem(error: "pydantic.ValidationError", whole: str) -> str:
    """The first thing that is wrong with a record, as "where: what"; `whole` where it is no field of its own."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"
