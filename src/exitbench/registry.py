"""One small registry for everything that can be added: policies, workloads, signals, engines.

A registry maps a name to an object. Third-party packages add to it through the entry-point group
`exitbench.<kinds>`; their modules are imported on the first look-up, never at import time.
"""

import difflib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from exitbench.errors import ExitbenchError, UnknownNameError

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Named objects of one kind.

    Args:
        kind: singular noun used in messages, e.g. "workload".
        plural: used in the entry-point group; the kind with an "s" if left out.
    """

    def __init__(self, kind: str, *, plural: str | None = None) -> None:
        self.kind = kind
        self._group = f"exitbench.{plural or kind + 's'}"
        self._entries: dict[str, T] = {}
        self._plugins_loaded = False

    def add(self, name: str, entry: T) -> T:
        """Register `entry` under `name` and return it.

        Raises:
            ExitbenchError: the name is taken by another object.
        """
        if self._entries.setdefault(name, entry) is not entry:
            raise ExitbenchError(
                f"{self.kind} {name!r} is already registered as {self._entries[name]!r}; choose another name"
            )
        return entry

    def get(self, name: str) -> T:
        """Return the object registered under `name`.

        Raises:
            UnknownNameError: no such name; the message lists near misses or every known name.
        """
        self._load_plugins()
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(self)}"
            raise UnknownNameError(f"unknown {self.kind} {name!r}; {hint}")
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        self._load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._entries)

    def _load_plugins(self) -> None:
        if self._plugins_loaded:
            return
        self._plugins_loaded = True
        for entry_point in entry_points(group=self._group):
            self.add(entry_point.name, entry_point.load())
