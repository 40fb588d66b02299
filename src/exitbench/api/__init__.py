"""The jobs of the command line as Python functions.

    from exitbench.api import load, trace, score

    model = load("smollm2-135m-instruct")
    card = score(trace(model, "mini", out="out/trace"))
    print(card.verdict)

The names stand here and not in `exitbench` itself because the packages `exitbench.trace`, `exitbench.score` and
`exitbench.report` already carry them. Importing this module imports torch; reading results does not need it.
"""

from exitbench.api.decoding import decode
from exitbench.api.folders import default_decode_folder, default_folder, default_profile_file, trace_folder
from exitbench.api.judging import findings, write_finding
from exitbench.api.lenses import TrainedLens, check_lens_file, lens
from exitbench.api.measuring import profile, trace
from exitbench.api.reading import policies_named, read_result, replay, report, save_policies, score
from exitbench.api.running import Run, run
from exitbench.api.studying import default_study_folder, plan_study, study
from exitbench.config import DecodeOptions, LensOptions, TraceOptions
from exitbench.decode.result import Decoding
from exitbench.models.load import LoadedModel, load
from exitbench.policies import ExitPolicy
from exitbench.policies.named import policy_to_decode
from exitbench.profiling import ProfileOptions
from exitbench.replay.assemble import ReplayOptions
from exitbench.replay.profiles import MeasuredProfile
from exitbench.replay.result import Replay
from exitbench.score import ScoreCard
from exitbench.study.estimate import Forecast
from exitbench.study.finding import Finding
from exitbench.study.run import StudyRun
from exitbench.trace.store import read_trace
from exitbench.trace.table import Trace
from exitbench.workloads import Workload, load_workload

__all__ = [
    "DecodeOptions",
    "Decoding",
    "ExitPolicy",
    "Finding",
    "Forecast",
    "LensOptions",
    "LoadedModel",
    "MeasuredProfile",
    "ProfileOptions",
    "Replay",
    "ReplayOptions",
    "Run",
    "ScoreCard",
    "StudyRun",
    "Trace",
    "TraceOptions",
    "TrainedLens",
    "Workload",
    "check_lens_file",
    "decode",
    "default_decode_folder",
    "default_folder",
    "default_profile_file",
    "default_study_folder",
    "findings",
    "lens",
    "load",
    "load_workload",
    "plan_study",
    "policies_named",
    "policy_to_decode",
    "profile",
    "read_result",
    "read_trace",
    "replay",
    "report",
    "run",
    "save_policies",
    "score",
    "study",
    "trace",
    "trace_folder",
    "write_finding",
]
