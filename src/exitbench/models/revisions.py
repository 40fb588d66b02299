"""The checkpoints of a training run: revisions of a hub repository, or folders in a folder.

Which revisions are checkpoints is told by the pattern of their names, from the catalogue or by hand, and checked with
what the repository lists. Without the hub only revisions that were named one by one can be had, and only those that
its cache holds: a choice among some of the revisions would be another choice.

Non-goals: downloading weights, and guessing the pattern of a repository that nobody described.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from exitbench.errors import ModelError
from exitbench.models.catalogue import ModelFacts, catalogue
from exitbench.models.checkpoint_folders import check_folder, folder_checkpoints
from exitbench.models.revision_names import Checkpoint, NamePattern, in_training_order, log_spaced
from exitbench.models.source import is_hub_id
from exitbench.models.strict import one_line

__all__ = ["DEFAULT_COUNT", "Checkpoint", "checkpoints_of"]

DEFAULT_COUNT = 8
"""Checkpoints of a choice that is not said to be of another size."""
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHOWN = 5
# The base of the hub's errors is that of its HTTP library, which is another one in other releases.
_HUB_ERRORS: tuple[type[BaseException], ...] = (OSError, HfHubHTTPError.__bases__[0])


def checkpoints_of(
    where: str,
    *,
    revisions: Literal["log", "all", "last"] | Sequence[str],
    count: int | None = None,
    base_folder: Path,
    pattern: str | None = None,
    tokens_per_step: int | None = None,
) -> list[Checkpoint]:
    """Find the checkpoints of one training run.

    Args:
        where: a folder of checkpoint folders, the hub id of a repository with checkpoints, or that of a listed model
            whose checkpoints are in another repository.
        revisions: "all" for every checkpoint; "last" for the last one; "log" for `count` of them, evenly in the
            logarithm of tokens seen, the first and the last among them; or names, which are taken in the order given.
        count: for "log" only, at least 2; None for `DEFAULT_COUNT`.
        base_folder: what a relative folder is relative to.
        pattern: of the names, for `str.format`; None for what the catalogue says, and for folders step-N, stepN and
            checkpoint-N.
        tokens_per_step: tokens of one step of training; None for what the catalogue says.

    Returns:
        Distinct checkpoints, those not named one by one in training order.

    Raises:
        ModelError: no such folder, repository or revision, no checkpoint in it, or an incomplete one.
    """
    if count is not None and revisions != "log":
        raise ModelError(f"count: {count} was given for {where}, but only `revisions: log` chooses; leave it out")
    if count is not None and count < 2:
        raise ModelError(f"count is {count} for {where}; expected 2 or more, for the first and the last checkpoint")
    root = base_folder / Path(where).expanduser()
    if root.is_dir():
        chosen = _in_folder(root, revisions, count, pattern, tokens_per_step)
        for checkpoint in chosen:
            check_folder(root, Path(checkpoint.source))
        return chosen
    if not is_hub_id(where):
        raise ModelError(f"there is no folder {root}, and {where!r} is no hub id; expected a folder of checkpoints")
    return _on_the_hub(where, revisions, count, pattern, tokens_per_step)


def _in_folder(
    root: Path, revisions: str | Sequence[str], count: int | None, pattern: str | None, tokens_per_step: int | None
) -> list[Checkpoint]:
    found = folder_checkpoints(root, pattern, tokens_per_step)
    if not isinstance(revisions, str):
        return _named(revisions, found, f"{root} has no checkpoint")
    found = [checkpoint for checkpoint in found if (checkpoint.step, checkpoint.tokens) != (None, None)]
    if not found and (root / "config.json").is_file():
        raise ModelError(f"{root} is one model, not a folder of checkpoints; list it as a model, or give the one above")
    if not found:
        expected = repr(pattern) if pattern else "step-N or checkpoint-N"
        raise ModelError(f"{root} has no folder named like {expected}; give the pattern of its names with `pattern:`")
    return _chosen(found, revisions, count)


def _on_the_hub(
    where: str, revisions: str | Sequence[str], count: int | None, pattern: str | None, tokens_per_step: int | None
) -> list[Checkpoint]:
    facts = _training_of(where)
    source = (facts.checkpoint_repo if facts else None) or where
    text = pattern or (facts.checkpoint_revision if facts else None)
    if tokens_per_step is None and facts and "tokens_per_step" not in facts.unverified and not pattern:
        tokens_per_step = facts.tokens_per_step
    names = NamePattern(text, tokens_per_step) if text else None
    final = facts.hub_id if facts else None
    if not isinstance(revisions, str):
        listed = _known(source, revisions)
        return _named(revisions, [_read(source, name, names, final) for name in listed], f"{source} has no revision")
    if names is None:
        raise ModelError(
            f"nobody described the checkpoints of {source}; add their pattern, e.g. `pattern: step{{step}}`"
        )
    listed = _listed(source)
    fitting = [name for name in listed if names.read(name) is not None]
    if not fitting:
        raise ModelError(
            f"{source} has no revision like {names.text!r}, but {_some(listed)}; give their pattern with `pattern:`"
        )
    return _chosen([_read(source, name, names, final) for name in fitting], revisions, count)


def _training_of(hub_id: str) -> ModelFacts | None:
    """The listed model that has this id, or whose checkpoints are in the repository of this id."""
    suites = catalogue().checkpoint_suites()
    held = (facts for facts in suites if (facts.checkpoint_repo or "").lower() == hub_id.lower())
    return next(held, catalogue().find(hub_id))


def _read(source: str, name: str, names: NamePattern | None, final: str | None) -> Checkpoint:
    step, tokens = (names.read(name) if names else None) or (None, None)
    return Checkpoint(source=source, revision=name, name=name, step=step, tokens=tokens, final=final)


def _chosen(found: Iterable[Checkpoint], revisions: str, count: int | None) -> list[Checkpoint]:
    ordered = in_training_order(list(found))
    if revisions == "last":
        return ordered[-1:]
    return log_spaced(ordered, count or DEFAULT_COUNT) if revisions == "log" else ordered


def _named(wanted: Sequence[str], found: Sequence[Checkpoint], problem: str) -> list[Checkpoint]:
    by_name = {checkpoint.name: checkpoint for checkpoint in found}
    for name in wanted:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, n=3)
            raise ModelError(f"{problem} {name!r}; {'did you mean' if near else 'it has'} {_some(near or by_name)}")
    return [by_name[name] for name in dict.fromkeys(wanted)]


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more if names else "none"


def _known(source: str, wanted: Sequence[str]) -> list[str]:
    """Names among which `wanted` must be: what the hub lists, or what its cache holds if it cannot be reached."""
    cached = _cached(source)
    if set(wanted) <= set(cached):
        return cached
    listed = _listed(source)
    return listed + [name for name in wanted if name in cached or _COMMIT.fullmatch(name)]


def _listed(source: str) -> list[str]:
    """Branches and tags of a repository."""
    try:
        refs = huggingface_hub.HfApi().list_repo_refs(source)
    except GatedRepoError as error:
        raise ModelError(f"{source} is gated; accept its terms on its hub page and run `hf auth login`") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"{source} is neither a folder nor on the hub, or is private; check the id") from error
    except _HUB_ERRORS as error:
        why = "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else one_line(error)
        raise ModelError(
            f"cannot list the revisions of {source}: {why}; go online, or name revisions that the hub's cache holds: "
            f"{_some(_cached(source))}"
        ) from error
    return list(dict.fromkeys(ref.name for ref in (*refs.branches, *refs.tags)))


def _cached(source: str) -> list[str]:
    """Branches, tags and commits of which the hub's cache holds files."""
    folder = Path(huggingface_hub.constants.HF_HUB_CACHE) / repo_folder_name(repo_id=source, repo_type="model")
    commits = {path.name for path in folder.glob("snapshots/*") if path.is_dir()}
    refs = [path for path in sorted(folder.glob("refs/**/*")) if path.is_file()]
    named = [path.relative_to(folder / "refs").as_posix() for path in refs if path.read_text().strip() in commits]
    return named + sorted(commits)
