"""Shapes whose costs are known by hand, and a measured profile, for tests of replay."""

from conftest import build_block, build_shape
from exitbench.models.shape import Experts
from exitbench.replay.profiles import MeasuredProfile, TimedPart

# A Llama block 32 wide: 4 heads of 8, 2 of them with keys and values, an MLP of 64; norms of 32; float32.
ATTENTION, MLP, NORMS = 2 * 32 * 32 + 2 * 16 * 32, 3 * 32 * 64, 2 * 32
LLAMA = {
    "product_weights": ATTENTION + MLP,
    "parameters": ATTENTION + MLP + NORMS,
    "active_parameters": ATTENTION + MLP + NORMS,
    "fixed_flops": 2 * (ATTENTION + MLP),
    "flops_per_position": 2 * 2 * 4 * 8,
    "weight_bytes": 4 * (ATTENTION + MLP + NORMS),
    "state_bytes_per_position": 4 * 2 * 2 * 8,
    "completion_flops": 2 * 2 * 16 * 32,
    "completion_flops_per_position": 0,
    "completion_weight_bytes": 4 * (2 * 16 * 32 + 32),
}
# Four experts of 6144 weights of which two are chosen, as in the toy Mixtral; router of 4 x 32.
MOE = LLAMA | {
    "experts": Experts(total=4, active=2),
    "product_weights": ATTENTION + 128 + 2 * MLP,
    "parameters": ATTENTION + 128 + 4 * MLP + NORMS,
    "active_parameters": ATTENTION + 128 + 2 * MLP + NORMS,
    "fixed_flops": 2 * (ATTENTION + 128 + 2 * MLP),
    "weight_bytes": 4 * (ATTENTION + 128 + 2 * MLP + NORMS),
}


def llama(num_blocks=4, **changes):
    blocks = tuple(build_block(**(LLAMA | changes)) for _ in range(num_blocks))
    return build_shape(
        [1 / num_blocks] * num_blocks,
        blocks=blocks,
        hidden_size=32,
        vocab_size=259,
        head_weights=259 * 32,
        head_weight_bytes=4 * 259 * 32,
    )


PART = TimedPart(rows=(1, 2, 4), median_s=(1.0, 1.5, 3.5), q10_s=(0.9, 1.4, 3.0), q90_s=(1.2, 1.6, 4.0))


def measured(**changes):
    return MeasuredProfile(
        **{
            "name": "a machine",
            "source": "exitbench profile toy",
            "model": "toy",
            "weights_sha256": "0" * 64,
            "dtype": "float32",
            "device": "cpu",
            "attention": "sdpa",
            "context": 16,
            "num_repeats": 3,
            "blocks": (PART, PART),
            "steps": TimedPart(rows=(1, 2, 4), median_s=(4.0, 5.0, 9.0), q10_s=(4, 5, 9), q90_s=(4, 5, 9)),
            "readout": PART,
            "translator": PART,
            "completion": (PART, PART),
            "libraries": {"torch": "2.13.0"},
            "environment": {"num_threads": 1},
        }
        | changes
    )
