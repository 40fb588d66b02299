"""Do the recorded signals agree with an independent, naive computation?

For every signal, on real weights in float32: the largest error of exitbench against the naive computation in float64,
beside the error that the naive computation itself makes in float32. Logits are the model's own in both, so that what is
compared is the signals; top-1 ids and EES are compared with a computation that also does norm and head on its own.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from common import documents, print_result
from exitbench.models.load import load
from exitbench.signals import SIGNALS, compute_signals
from exitbench.trace.decided import remaining_costs
from exitbench.trace.decision import decision_depths

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from naive import naive_signals


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=960)
    arguments = parser.parse_args()

    loaded = load(arguments.model, dtype="float32")
    errors: dict[str, list[tuple[float, float]]] = {}
    ids_differ, ties, depths, naive_depths = 0, 0, [], []
    for ids in documents(loaded, arguments.tokens, length=21):
        tokens = torch.tensor(ids)
        hidden = loaded.adapter.capture(tokens[None], slice(0, len(ids) - 1))
        ours = compute_signals(hidden, tokens[1:], loaded.readout, names=SIGNALS)
        base = loaded.model.base_model
        own = loaded.model.lm_head(base.norm(hidden))  # both known models: one norm, one head
        logits = loaded.adapter.readout(hidden.flatten(0, 1)).view(len(hidden), -1, loaded.shape.vocab_size)
        exact = naive_signals(logits.double().numpy(), hidden.double().numpy(), tokens[1:].numpy())
        plain = naive_signals(logits.numpy(), hidden.numpy(), tokens[1:].numpy())
        for name, want in exact.items():
            of_ours, of_plain = (float(np.nanmax(abs(x[name] - want))) for x in (ours, plain))
            errors.setdefault(name, []).append((of_ours, of_plain))
        top1 = own.argmax(-1).numpy().T
        different = ours["top1_id"] != top1
        best2 = own.topk(2).values.numpy()
        ids_differ += int(different.sum())
        ties += int((different & (abs(best2[..., 0] - best2[..., 1]).T < 1e-3)).sum())
        depths.append(decision_depths(ours["top1_id"]))
        naive_depths.append(_slow_decision_depths(top1))
    rho = remaining_costs(loaded.shape.block_costs)
    ees, naive_ees = (float(rho[np.concatenate(d)].mean()) for d in (depths, naive_depths))
    worst = {name: tuple(max(column) for column in zip(*pairs, strict=True)) for name, pairs in errors.items()}
    rows = [{"signal": name, "error": ours, "error of naive float32": naive} for name, (ours, naive) in worst.items()]
    n = sum(len(d) for d in depths)
    print_result(
        f"{arguments.model}, float32, {n} tokens at {loaded.shape.num_blocks + 1} depths",
        rows,
        {
            "model": arguments.model,
            "n_tokens": n,
            "top1_ids_that_differ": ids_differ,
            "of_these_within_1e-3_of_a_tie": ties,
            "ees": ees,
            "ees_naive": naive_ees,
            "max_error": {name: {"exitbench": a, "naive_float32": b} for name, (a, b) in worst.items()},
        },
    )


def _slow_decision_depths(top1: np.ndarray) -> np.ndarray:
    """(R,) decision depths of (R, L + 1) ids, token by token, straight from the definition."""
    return np.array([next(d for d in range(len(row)) if (row[d:] == row[-1]).all()) for row in top1])


if __name__ == "__main__":
    main()
