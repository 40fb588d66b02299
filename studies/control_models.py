"""Make models from a given one of which something is known beforehand: controls for the instrument.

    identity-tail   ten blocks that change nothing, appended: EES must rise to 1 - (1 - EES) L / (L + 10), exactly
    truncated       the first two thirds of the blocks, with the norm and head of the whole model
    untrained       the same configuration with random weights

Each is left as an ordinary checkpoint with a record of the weights it was made from, and made again if those are
others; `zoo/real-models.yaml` is the study of them.

    python studies/control_models.py --out exitbench-out/controls
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from exitbench.api import load
from exitbench.errors import ExitbenchError
from exitbench.files import write_json
from exitbench.models.strict import quiet_transformers
from whole_folders import whole_folder

TAIL = 10
RECORD = "control.json"


def identity_tail(model: PreTrainedModel) -> PreTrainedModel:
    """The model with blocks appended whose last products have zero weights, so that they add nothing."""
    changed = copy.deepcopy(model)
    blocks = changed.model.layers
    for _ in range(TAIL):
        block = copy.deepcopy(blocks[-1])
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
        torch.nn.init.zeros_(block.mlp.down_proj.weight)
        blocks.append(block)
    return _renumbered(changed)


def truncated(model: PreTrainedModel) -> PreTrainedModel:
    """The first two thirds of the model's blocks, with its own norm and head."""
    changed = copy.deepcopy(model)
    changed.model.layers = changed.model.layers[: 2 * len(changed.model.layers) // 3]
    return _renumbered(changed)


def untrained(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same configuration with random weights."""
    torch.manual_seed(0)
    fresh: PreTrainedModel = AutoModelForCausalLM.from_config(model.config, dtype=model.dtype)
    return fresh


def _renumbered(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its configuration, and what blocks know of their place, as its blocks are now."""
    for index, block in enumerate(model.model.layers):
        block.self_attn.layer_idx = index
    model.config.num_hidden_layers = len(model.model.layers)
    kinds = getattr(model.config, "layer_types", None)
    if kinds:
        model.config.layer_types = [kinds[min(index, len(kinds) - 1)] for index in range(len(model.model.layers))]
    return model


CONTROLS: dict[str, Callable[[PreTrainedModel], PreTrainedModel]] = {
    "identity-tail": identity_tail,
    "truncated": truncated,
    "untrained": untrained,
}


def _origin(folder: Path) -> dict[str, str] | None:
    """What a control was made from; None where there is none, or it does not say."""
    file = folder / RECORD
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="of Llama's kin: blocks at model.layers")
    arguments = parser.parse_args()
    loaded = load(arguments.model)
    origin = {"of": loaded.source.name, "weights_sha256": loaded.source.weights_sha256}
    made = {}
    for name, make in CONTROLS.items():
        folder = arguments.out / name
        if _origin(folder) != origin:
            with whole_folder(folder) as unfinished, quiet_transformers():
                make(loaded.model).save_pretrained(unfinished)
                loaded.tokenizer.save_pretrained(unfinished)
                write_json(unfinished / RECORD, origin)
        made[name] = json.loads((folder / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"]
        sys.stdout.write(f"{folder}: {made[name]} blocks\n")
    sys.stdout.write(json.dumps({"study": "control models", "of": loaded.source.name, "blocks": made}) + "\n")


if __name__ == "__main__":
    try:
        main()
    except ExitbenchError as error:
        sys.exit(str(error))
