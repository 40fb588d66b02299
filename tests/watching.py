"""What a policy may look at, made by hand."""

import numpy as np

from exitbench.policies.policy import Seen


def seen_of(*, depths=None, num_blocks=None, position=None, limit=8, num_tokens=None, **signals):
    """Some tokens at their probe depths.

    Args:
        depths: (K,) probe depths; 1 to K if None.
        num_blocks: L; one more than the last probe depth if None.
        position: (N,) of each token in its answer; 0 if None.
        limit: longest answer.
        num_tokens: N, where there are no signals.
        signals: name -> (N, K).
    """
    values = {
        name: np.asarray(value, dtype=np.int32 if name == "top1_id" else np.float32) for name, value in signals.items()
    }
    shape = next(iter(values.values())).shape if values else (num_tokens, len(depths))
    at = np.arange(1, shape[1] + 1) if depths is None else np.asarray(depths, dtype=np.int64)
    return Seen(
        depths=at,
        num_blocks=int(at.max(initial=0)) + 1 if num_blocks is None else num_blocks,
        answer_position=np.zeros(shape[0], dtype=np.int64) if position is None else np.asarray(position),
        answer_limit=limit,
        signals=values,
    )
