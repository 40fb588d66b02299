"""Policies as files: plain JSON, checked for the model they are to be used on when they are read.

A file that is wrong in any way is refused in one line: a policy that silently fell back on a default would still give
figures. That the model is the one a policy was fitted on is checked where the model is known, see `replay.look`.
"""

import json
from pathlib import Path
from typing import Any

import pydantic

from exitbench.errors import ExitbenchError, first_problem
from exitbench.files import write_json
from exitbench.policies.builtin import POLICIES
from exitbench.policies.policy import ExitPolicy

__all__ = ["policy_from_json", "read_policy", "write_policy"]


def policy_from_json(data: Any, *, num_blocks: int) -> ExitPolicy:
    """Read what `ExitPolicy.to_json` gave.

    Args:
        data: parsed JSON.
        num_blocks: L of the model that the policy is for.

    Raises:
        UnknownNameError: no policy of that name is registered.
        ExitbenchError: not a policy, or none that makes sense in a model of L blocks.
    """
    if not isinstance(data, dict) or not isinstance(data.get("policy"), str):
        raise ExitbenchError('not a policy: expected a JSON object with its name under "policy"')
    name = data["policy"]
    kind = POLICIES.get(name)
    try:
        policy = kind.model_validate({key: value for key, value in data.items() if key != "policy"})
    except pydantic.ValidationError as error:
        problem = first_problem(error, "policy")
        raise ExitbenchError(f"policy {name!r}: {problem}; it has {', '.join(kind.model_fields)}") from error
    return policy.checked(num_blocks)


def read_policy(path: Path, *, num_blocks: int) -> ExitPolicy:
    """Read a policy from a JSON file.

    Args:
        path: of a file that `write_policy` wrote.
        num_blocks: L of the model that the policy is for.

    Raises:
        ExitbenchError: no such file, no JSON, or what `policy_from_json` refuses; says which file.
    """
    try:
        return policy_from_json(json.loads(path.read_text(encoding="utf-8")), num_blocks=num_blocks)
    except OSError as error:
        raise ExitbenchError(f"cannot read policy {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ExitbenchError(f"{path} is not JSON: {error}; write policies with --save-policies") from error
    except ExitbenchError as error:
        raise type(error)(f"{path}: {error}") from error


def write_policy(path: Path, policy: ExitPolicy) -> None:
    """Write a policy to a JSON file, complete or not at all."""
    write_json(path, policy.to_json())
