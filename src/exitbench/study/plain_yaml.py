"""The YAML that a spec may be written in: mappings, lists, words, numbers, true, false and null; nothing else.

Plain words are those of YAML 1.2, so that `on`, `no` and `2025-04` are text. What can surprise or harm is refused: a
key given twice, anchors and aliases (with which a few lines grow without bound), and tags (which name types to build).
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from exitbench.errors import StudyError

__all__ = ["MAX_BYTES", "read_plain_yaml"]

MAX_BYTES = 2**20


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # no types
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _problem("an alias (*name) is not read here; write the value out", event)
        if getattr(event, "anchor", None) is not None:
            raise _problem("an anchor (&name) is not read here; write the value out where it is needed", event)
        if getattr(event, "tag", None) is not None:
            raise _problem(f"a tag ({event.tag}) is not read here; leave it out", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _problem("a key is a list or mapping, expected a word", key)
            if key.value in seen:
                raise _problem(f"the key {key.value!r} is given twice; leave out one", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def _problem(what: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=place.start_mark)


for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,18})", "-+0123456789"),
    ("float", r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
):
    _PlainLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})\\Z"), list(_first))


def read_plain_yaml(path: Path) -> Any:
    """Read a file.

    Raises:
        StudyError: it cannot be read, is too large, is not UTF-8, or holds what is not read here; says where.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror or error}; give a YAML file") from error
    if len(content) > MAX_BYTES:
        raise StudyError(f"{path} is larger than {MAX_BYTES // 2**20} MiB, so it is no spec of a study")
    try:
        return yaml.load(content.decode("utf-8-sig"), Loader=_PlainLoader)  # noqa: S506 -- a narrower safe loader
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except RecursionError as error:
        raise StudyError(f"{path} is nested too deeply to be a spec of a study") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StudyError(f"{path}, {line}{_one_line(error.problem or error.context)}") from error
    except yaml.YAMLError as error:  # characters that YAML does not have
        raise StudyError(f"{path} is not YAML: {_one_line(error)}") from error


def _one_line(what: Any) -> str:
    return " ".join(str(what).split())[:200]
