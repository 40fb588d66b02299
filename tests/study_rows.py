"""Rows of studies that never ran, as a runner would leave them."""

import math
from typing import Any

from exitbench.study.rows import Row

FACTORS = ({"kind": "dense", "stage": "base"}, {"kind": "moe", "stage": "base"}, {"kind": "ssm", "stage": "instruct"})


def row(figure: str = "ees", value: float | None = 0.25, **changes: Any) -> Row:
    """One row of an unnamed cell."""
    given: dict[str, Any] = {
        "study": "example",
        "cell": "c0",
        "model": "m0",
        "source": "m0",
        "workload": "mini",
        "on": "text",
        "readout": "logit",
        "seed": 0,
        "status": "ok" if value is not None else "missing",
        "figure": figure,
        "value": value,
        "command": "exitbench study example.yaml",
        "created": "2026-01-01T00:00:00Z",
    }
    return Row(**(given | changes))


def failed(reason: str, **changes: Any) -> Row:
    """The one row of a cell that failed."""
    return row("cell", None, status="failed", reason=reason, **changes)


def cell_rows(
    *, depths: int = 13, late: float = 0.5, matrices: bool = True, replayed: bool = False, **identity: Any
) -> list[Row]:
    """All rows of one cell; `late` in 0..1 is how late tokens are decided; of batches and policies if `replayed`."""
    num_blocks = depths - 1
    known = {"num_blocks": num_blocks, "n_tokens": 1_000, "n_prompts": 20} | identity

    def made(figure: str, value: float | None, **changes: Any) -> Row:
        return row(figure, value, **(known | changes))

    share = [(d / num_blocks) ** (1 + 6 * late) for d in range(depths)]
    ees = sum(share[:-1]) / num_blocks
    rows = [made("ees", ees, low=ees - 0.01, high=ees + 0.01), made("ees_star", ees - 0.02)]
    rows += [made("aes_1pct", None, reason="too few prompts"), made("bits_per_character", 1 + 2 / (1 + 4 * late))]
    rows += [made("ees_untrained", 0.01 * seed, variant=str(seed)) for seed in range(1, 4)]
    rows.append(made("ees_untrained_mean", 0.02))
    curves = {
        "decided": share,
        "agreement": [min(1.0, s + 0.05) for s in share],
        "entropy": [8 * (1 - s) + 1 for s in share],
        "loss": [6 * (1 - s) + 2.5 for s in share],
        "block_influence": [0.3 * abs(math.cos(d)) + 0.05 for d in range(depths)],
        "cosine_previous": [0.95 - 0.3 * abs(math.cos(d)) for d in range(depths)],
        "effective_rank": [40 - d for d in range(depths)],
        "anisotropy": [0.02 * d for d in range(depths)],
        "residual_norm": [1.3**d for d in range(depths)],
        "top1_churn": [0.4 * (1 - s) for s in share],
    }
    rows += [made(figure, v, depth=d) for figure, values in curves.items() for d, v in enumerate(values)]
    if replayed:
        rows += [made("batch", ees / size, at=float(size)) for size in (1, 4, 16, 64)]
        rows += [
            made(f"policy_{figure}", value * (1 + i) * eps, variant=f"{name} {probes}", target=f"bootstrap token {eps}")
            for i, name in enumerate(("confidence", "entropy", "patience"))
            for probes in ("every", "every-4")
            for eps in (0.01, 0.05)
            for figure, value in (("disagreement", 0.9), ("savings", 2.0), ("net_flops", -1.0), ("net_bytes", 1.5))
        ]
    if matrices:
        rows += [
            made("cka", math.exp(-abs(share[a] - share[b]) - late * abs(a - b) / 10), depth=a, other_depth=b)
            for a in range(depths)
            for b in range(a, depths)
        ]
    return rows


def study_rows(*, models: int = 3, checkpoints: int = 5, depths: int = 13, **identity: Any) -> list[Row]:
    """Models with checkpoints, all measured."""
    return [
        found
        for m in range(models)
        for c in range(checkpoints)
        for found in cell_rows(
            depths=depths,
            late=(0.3 + 0.1 * (m % 3)) * (c + 1) / checkpoints,
            cell=f"cell-{m}-{c}",
            model=f"model-{m}",
            source=f"zoo/model-{m}",
            revision=f"step-{10**c if c else 0}",
            step=10**c if c else 0,
            tokens_seen=(10**c if c else 0) * 2_000_000,
            active_params_b=0.1 * (m + 1),
            tags={"seed": str(m % 2)},
            **{**FACTORS[m % 3], **identity},
        )
    ]
