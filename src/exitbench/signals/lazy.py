"""Decision depths without reading out what cannot matter: those of the full readout at every depth, bit for bit.

Only the last unbroken run of agreement counts. So the depths are walked from L - 1 downwards, and a token is followed
no further than its first disagreement. And to disagree, one rival above the final top-1 is enough: a shortlist of
likely rivals is asked first, the whole vocabulary only where it knew of none. docs/readout.md has the proof.

Ids and depths stay on the CPU, where the walk is decided; CPU indices serve tensors of any device. Hidden states,
features and logits stay where the model has them.

Shapes: L blocks, R tokens, A of them still agreeing, K depths from the deepest down, N pairs of depth and token,
D hidden size, E features, V vocabulary, C shortlist.
"""

import torch

from exitbench.models.readout import Readout
from exitbench.signals.compute import DEFAULT_MEMORY, MOST_ROWS
from exitbench.signals.decision import Decisions, top_ids
from exitbench.signals.native import native_reductions

__all__ = ["LazyDecisions"]

_MOST_RIVALS = 512


class LazyDecisions:
    """Decides stretch after stretch of one model's tokens, and gets to know the usual rivals meanwhile.

    What it has seen before changes how long a decision takes, never its result.

    Args:
        readout: of the model.
    """

    def __init__(self, readout: Readout) -> None:
        self._readout = readout
        self._rows = MOST_ROWS
        self._wins = torch.zeros(readout.vocab_size, dtype=torch.int64)
        """(V,) how often each token has beaten a final top-1."""
        self._not_finite = 0

    def __call__(self, hidden_LRD: torch.Tensor, *, memory: int = DEFAULT_MEMORY) -> Decisions:
        """Decide the tokens of a stretch.

        Args:
            hidden_LRD: (L + 1, R, D) hidden states after 0..L blocks.
            memory: bytes of logits to hold at once.
        """
        rows = memory // (self._readout.vocab_size * self._readout.dtype.itemsize)
        self._rows, self._not_finite = max(1, min(MOST_ROWS, rows)), 0
        final = self._top_ids(self._readout.features(hidden_LRD[-1]))
        depth = torch.zeros_like(final)
        agreeing, high = torch.arange(len(final)), len(hidden_LRD) - 1
        while high > 0 and len(agreeing) > 0:
            # As many depths at once as fill a product.
            low = max(0, high - max(1, self._rows // len(agreeing)))
            agrees = self._agrees(hidden_LRD[low:high, agreeing].flip(0), final[agreeing])
            run = agrees.int().cumprod(0).sum(0)
            ended = run < high - low
            depth[agreeing[ended]] = high - run[ended]
            agreeing, high = agreeing[~ended], low
        return Decisions(final_id=final.int().numpy(), decision_depth=depth.int().numpy(), not_finite=self._not_finite)

    def _agrees(self, hidden_KAD: torch.Tensor, final_A: torch.Tensor) -> torch.Tensor:
        """(K, A) whether the top-1 is the final one; where a deeper one of the K depths disagrees, it may not be known.

        What is not known is False.
        """
        features_NE = self._readout.features(hidden_KAD.flatten(0, 1))
        final_N = final_A.repeat(len(hidden_KAD))
        agrees = final_N >= 0
        if self._readout.picks_tokens:
            shortlist = torch.cat([final_A.clamp_min(0), self._rivals()]).unique()
            rival = self._top_ids(features_NE, shortlist)
            agrees &= rival == final_N
            self._note(rival[~agrees])
        in_question = agrees.view(len(hidden_KAD), -1).cummin(0).values.flatten().nonzero()[:, 0]
        top = self._top_ids(features_NE[in_question])
        won = top != final_N[in_question]
        self._note(top[won])
        agrees = torch.zeros_like(agrees).index_fill(0, in_question[~won], True)
        return agrees.view(len(hidden_KAD), -1)

    def _note(self, winners: torch.Tensor) -> None:
        """Count tokens that have beaten a final top-1; -1 for none."""
        self._wins += torch.bincount(winners[winners >= 0], minlength=len(self._wins))

    def _rivals(self) -> torch.Tensor:
        """(C,) tokens that have most often beaten a final top-1."""
        wins, tokens = self._wins.topk(min(_MOST_RIVALS, len(self._wins)))
        return tokens[wins > 0]

    def _top_ids(self, features_NE: torch.Tensor, shortlist: torch.Tensor | None = None) -> torch.Tensor:
        """(N,) token with the largest logit, of all or of an ascending shortlist; the lowest of those tied."""
        found = [torch.empty(0, dtype=torch.int64)]
        for start in range(0, len(features_NE), self._rows):
            chunk_NE = features_NE[start : start + self._rows]
            top = _top_ids(self._readout.logits(chunk_NE, shortlist)).cpu()
            self._not_finite += int((top < 0).sum())
            found.append(top if shortlist is None else torch.where(top < 0, top, shortlist[top]))
        return torch.cat(found)


def _top_ids(logits: torch.Tensor) -> torch.Tensor:
    native = native_reductions(logits.dtype, logits.device)
    return top_ids(logits) if native is None else native.top_ids(logits)
