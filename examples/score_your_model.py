"""Score a model in a minute: what early exit could skip, what a plain threshold finds of it, and what it costs.

    python examples/score_your_model.py            a toy model, in seconds: its figures mean nothing
    python examples/score_your_model.py MODEL      any causal model: a hub id, a folder, a short name

Few short answers keep it short: the demo model, `smollm2-135m-instruct`, takes 44 s of one core of an AMD EPYC once its
weights are there, all in all. The intervals say what so few prompts are worth: `exitbench run` measures all of `mini`.
"""

import argparse
import sys
from pathlib import Path

from exitbench.api import TraceOptions, run
from exitbench.errors import ExitbenchError
from exitbench.models.toy import save_toy
from exitbench.report.pays import pays


def main() -> None:
    """Trace, score and report; the same command again goes on where it was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a toy, if left out")
    parser.add_argument("--prompts", type=int, default=24, help="of mini, its categories in turn")
    parser.add_argument("--out", type=Path, default=Path("exitbench-out/minute"))
    arguments = parser.parse_args()

    model = arguments.model or str(save_toy(arguments.out / "toy", num_blocks=6))
    options = TraceOptions(limit=arguments.prompts, max_new_tokens=12)
    folder = arguments.out / f"{Path(model).name}-{arguments.prompts}"
    result = run(model, "mini", out=folder, options=options)

    card = result.card
    print(card.verdict)
    for figure in ("ees", "ees_star", "aes_5pct", "nes_flops_copy_5pct", "nes_bytes_deferred_5pct"):
        measured = getattr(card, figure)
        print(f"{figure:24}", card.reasons[figure] if measured is None else measured.text())
    print("\n".join(pays(card)))
    print(f"{card.n_tokens} tokens of {card.n_prompts} prompts; open {result.folder / 'report.html'}")


if __name__ == "__main__":
    try:
        main()
    except ExitbenchError as error:
        sys.exit(f"error: {error}")
