"""The engines that come with exitbench, under their names, made from settings as they are typed."""

from collections.abc import Mapping, Sequence
from typing import Any

from exitbench.decode.decoder import ExitDecoder
from exitbench.decode.engine import ENGINES, Engine
from exitbench.decode.generation import Greedy, SelfSpeculation
from exitbench.decode.in_economize import Economize
from exitbench.errors import DecodeError
from exitbench.models.load import LoadedModel
from exitbench.policies.named import policy_to_decode
from exitbench.policies.static import FixedDepth

__all__ = ["ENGINES"]

_POLICY = ("threshold", "probes")
_LOOP = ("state", "rows", "draft", "most_waiting")


def _exitbench(loaded: LoadedModel, settings: Mapping[str, Any]) -> Engine:
    """Our own loop: a policy by name or file, with its threshold and probes; state, rows, draft, most_waiting.

    Without a policy no token leaves early: the baseline of all others.
    """
    chosen = {name: settings[name] for name in _POLICY if name in settings}
    _require_known(settings, ("policy", *_POLICY, *_LOOP), needed="policy" if chosen else None)
    if "policy" in settings:
        policy = policy_to_decode(settings["policy"], num_blocks=loaded.adapter.num_blocks, **chosen)
    else:
        policy = FixedDepth()
    return ExitDecoder(loaded, policy, **{name: settings[name] for name in _LOOP if name in settings})


def _greedy(loaded: LoadedModel, settings: Mapping[str, Any]) -> Engine:
    """Transformers' greedy generation."""
    _require_known(settings, ())
    return Greedy(loaded)


def _speculating(loaded: LoadedModel, settings: Mapping[str, Any]) -> Engine:
    """Transformers' `assistant_early_exit`, at a depth."""
    _require_known(settings, ("depth",), needed="depth")
    return SelfSpeculation(loaded, depth=settings["depth"])


def _economize(loaded: LoadedModel, settings: Mapping[str, Any]) -> Engine:
    """The economize library: a technique, and what it needs."""
    return Economize(loaded, **settings)


def _require_known(settings: Mapping[str, Any], known: Sequence[str], *, needed: str | None = None) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise DecodeError(f"unknown setting {unknown[0]!r} of an engine, expected {', '.join(known) or 'none'}")
    if needed is not None and needed not in settings:
        raise DecodeError(f"the engine needs the setting {needed!r}; it has {', '.join(known)}")


ENGINES.add("exitbench", _exitbench)
ENGINES.add("economize", _economize)
ENGINES.add("transformers", _greedy)
ENGINES.add("transformers-early-exit", _speculating)
