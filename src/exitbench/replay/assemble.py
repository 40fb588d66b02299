"""From a trace and some policies to the result of their comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exitbench.errors import TraceError
from exitbench.policies import POLICIES, ExitPolicy, Schedule, read_policy
from exitbench.policies.confidence import TopProbability
from exitbench.progress import SILENT, Progressor
from exitbench.replay.ceiling import oracles
from exitbench.replay.columns import CostColumns
from exitbench.replay.folds import Folds
from exitbench.replay.frontier import frontier
from exitbench.replay.hold import Bench, Held, best, hold
from exitbench.replay.look import require_same_model
from exitbench.replay.points import operating_points
from exitbench.replay.profiles import Profile
from exitbench.replay.result import PolicyFrontier, Replay
from exitbench.replay.speculation import project
from exitbench.replay.targets import Target, targets
from exitbench.stats.answers import task_metric
from exitbench.stats.bootstrap import LEVEL, MIN_PROMPTS
from exitbench.stats.certify import DELTA
from exitbench.stats.material import Outcomes, certain, gather
from exitbench.stats.reasoned import with_reasons
from exitbench.trace.decided import first_match_depths
from exitbench.trace.table import Trace

__all__ = [
    "DRAWS",
    "SCHEDULES",
    "TARGETS",
    "ReplayOptions",
    "at_schedules",
    "bench_of",
    "policies_named",
    "replay",
    "why_no_replay",
    "zoo",
]

DRAWS = 2000
TARGETS = targets(eps=(0.01, 0.05), procedures=("bootstrap", "fixed-sequence"), risk="token", delta=DELTA)
"""1 % and 5 % of tokens: tuned, and certified where there are enough prompts."""
SCHEDULES = ("every", "every-4", "learned-3")


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """What policies are held to, and what their costs assume."""

    targets: tuple[Target, ...] = TARGETS
    batch: int = 1
    """Rows decoded together."""
    context: int = 512
    """Positions attended to."""
    profile: Profile | None = None
    """Whose times are projected, if any."""
    seed: int = 0
    draws: int = DRAWS


def zoo(trace: Trace, schedules: Sequence[str] = SCHEDULES) -> list[ExitPolicy]:
    """Every registered policy that can be replayed on a trace, at each of the probe schedules.

    Left out are policies that look at optional signals the trace does not have.
    """
    policies: list[ExitPolicy] = []
    for name in POLICIES:
        policy = POLICIES.get(name)
        if all(signal in trace.signals for signal in policy.signals):
            policies += at_schedules(policy, schedules)
    return policies


def at_schedules(policy: type[ExitPolicy], schedules: Sequence[str]) -> list[ExitPolicy]:
    """A policy at each of the probe schedules; once at every depth if it looks at no signal and so has no probes."""
    return [policy(schedule=Schedule.parse(text)) for text in (schedules if policy.signals else SCHEDULES[:1])]


def policies_named(traced: Trace, names: Sequence[str], *, probes: Sequence[str] = ()) -> list[ExitPolicy]:
    """Exit policies by name, each at every one of the probe schedules, or from files.

    Of a file come the probe depths and what was fitted. Its threshold does not: a replay chooses thresholds anew, on
    other prompts than it judges them by. So files that differ in nothing else give one policy.

    Args:
        traced: of the model they are for.
        names: of policies, or JSON files; every policy that the trace allows if there are none.
        probes: schedules, see `Schedule.parse`; every depth, every fourth and three learned ones if there are none.
    """
    schedules = tuple(probes) or SCHEDULES
    if not names:
        return zoo(traced, schedules)
    policies: list[ExitPolicy] = []
    for name in names:
        if name.endswith(".json"):
            saved = read_policy(Path(name), num_blocks=traced.num_blocks)
            policies.append(saved.model_copy(update={"threshold": None}))
        else:
            policies += at_schedules(POLICIES.get(name), schedules)
    return [policy for index, policy in enumerate(policies) if policy not in policies[:index]]


def replay(
    trace: Trace,
    policies: Sequence[ExitPolicy] | None = None,
    *,
    options: ReplayOptions | None = None,
    command: str = "",
    progress: Progressor = SILENT,
) -> Replay:
    """Compare exit policies on a trace.

    Args:
        trace: with signals.
        policies: to be compared, with the plain threshold in any case; the zoo if None.
        options: what they are held to, and what costs assume.
        command: recorded as what made the result.
        progress: where to show a bar.

    Raises:
        TraceError: a fast trace, fewer than 10 prompts, a signal that the trace lacks, or a policy fitted on another
            model.
    """
    options = options or ReplayOptions()
    compared = list(zoo(trace) if policies is None else policies)
    if TopProbability() not in compared:
        compared.insert(0, TopProbability())
    for policy in compared:
        require_same_model(trace, policy)
    bench = bench_of(trace, compared, options)
    held, frontiers = [], []
    with progress.bar(f"Replaying {trace.manifest.model.name}", len(compared)) as advance:
        for policy in compared:
            held.append(hold(bench, policy))
            if not policy.learns:
                curves = frontier(bench.material, policy)
                frontiers.append(PolicyFrontier(policy=policy.name, probes=policy.schedule.text, frontier=curves))
            advance(1)
    plain = held[compared.index(TopProbability())]
    held += [best(bench, held, column=column) for column in bench.costs.known]
    return _result(trace, bench, held, plain, frontiers, options, command)


def why_no_replay(trace: Trace) -> str:
    """Why no policy can be held to anything on a trace, and what to do; nothing where policies can."""
    if trace.manifest.settings.recorded != "signals":
        return "the trace was made with --fast and holds no signals to replay; trace again without it"
    prompts = len(np.unique(trace.sample_index))
    if prompts < MIN_PROMPTS:
        return f"cross-fitting needs at least {MIN_PROMPTS} prompts, the trace has {prompts}; trace more"
    return ""


def bench_of(trace: Trace, policies: Sequence[ExitPolicy], options: ReplayOptions) -> Bench:
    """What policies of a trace share when they are compared.

    Raises:
        TraceError: a fast trace, or fewer than 10 prompts.
    """
    if why := why_no_replay(trace):
        raise TraceError(why)
    bootstrap_seed, fold_seed = np.random.SeedSequence(options.seed).spawn(2)
    material = gather(trace, draws=options.draws, seed=bootstrap_seed, level=LEVEL, pooled=False)
    return Bench(
        material=material,
        folds=Folds(material.prompts, draws=options.draws, seed=fold_seed),
        costs=CostColumns(trace, batch=options.batch, context=options.context, profile=options.profile),
        targets=options.targets,
        num_policies=len(policies),
        metric=task_metric(trace) if any(target.risk == "task" for target in options.targets) else None,
    )


def _result(
    trace: Trace,
    bench: Bench,
    held: Sequence[Held],
    plain: Held,
    frontiers: list[PolicyFrontier],
    options: ReplayOptions,
    command: str,
) -> Replay:
    material, manifest = bench.material, trace.manifest
    first = first_match_depths(trace.top1_id)
    points = operating_points(
        bench, held, plain=plain, oracles=oracles(material, [target.eps for target in bench.targets])
    )
    drafting = bench.costs.drafting
    outcomes: Outcomes
    if isinstance(drafting, str):
        outcomes = dict.fromkeys(("speculation", "speculation_drafts"), drafting)
    else:
        projection = project(material, bench.folds, **drafting)
        outcomes = {"speculation": certain(projection.speedup), "speculation_drafts": list(projection.drafts)}
    fields = {
        "model": manifest.model,
        "shape": manifest.shape,
        "workload": manifest.workload,
        "categories": list(dict.fromkeys(sample.category for sample in trace.samples)),
        "settings": manifest.settings,
        "libraries": manifest.libraries,
        "trace_command": manifest.command,
        "command": command,
        "seed": options.seed,
        "draws": options.draws,
        "batch": options.batch,
        "context": options.context,
        "profile": options.profile.name if options.profile else "",
        "n_tokens": trace.num_tokens,
        "n_prompts": material.prompts.num_prompts,
        "stable": material.figure(material.saved),
        "first_match": material.figure(material.rho[first]),
        "points": points,
        "frontiers": frontiers,
    }
    return Replay.model_validate(fields | with_reasons(outcomes))
