"""The figures of a study's page: their names, what they say, and how they are drawn."""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["BY_DEPTH", "BY_PAIR", "PLAIN", "Shown", "shown"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One figure as the page names it."""

    name: str
    title: str
    meaning: str = ""
    logarithmic: bool = False
    """Whether its size changes by orders of magnitude."""


BY_DEPTH = (
    Shown(
        name="decided", title="Decided curve F(d)", meaning="share of tokens whose top-1 is the final one from here on"
    ),
    Shown(name="agreement", title="Top-1 agreement", meaning="share of tokens whose top-1 is the final one"),
    Shown(name="entropy", title="Entropy of the prediction (nats)", meaning="mean over tokens"),
    Shown(name="loss", title="Loss of the prediction (nats)", meaning="mean over tokens", logarithmic=True),
    Shown(name="accuracy", title="Accuracy of the prediction", meaning="share of tokens whose top-1 is the target"),
    Shown(
        name="block_influence",
        title="Block influence",
        meaning="1 - cosine of the hidden states before and after the block",
    ),
    Shown(
        name="cosine_previous",
        title="Cosine to the depth before",
        meaning="of the hidden states of the same token at neighbouring depths",
    ),
    Shown(
        name="effective_rank",
        title="Effective rank",
        meaning="how many directions the hidden states of different tokens spread over",
    ),
    Shown(
        name="anisotropy",
        title="Anisotropy",
        meaning="mean cosine of the hidden states of different tokens; 1 is a single direction",
    ),
    Shown(name="residual_norm", title="Norm of the residual stream", meaning="mean over tokens", logarithmic=True),
    Shown(name="norm_growth", title="Growth of the norm", meaning="norm over the norm at the depth before"),
    Shown(
        name="top1_churn",
        title="Top-1 churn",
        meaning="share of tokens whose top-1 differs from that of the depth before",
    ),
)
BY_PAIR = (
    Shown(
        name="cka",
        title="CKA of two depths",
        meaning="similarity of what the hidden states say of the tokens; 1 is the same up to rotation and scale",
    ),
    Shown(
        name="angular_distance",
        title="Angular distance of two depths",
        meaning="mean angle between a token's hidden states, as a share of half a turn",
    ),
)
PLAIN = (
    Shown(name="ees", title="EES"),
    Shown(name="ees_star", title="EES*"),
    Shown(name="aes_1pct", title="AES(1 %)"),
    Shown(name="aes_5pct", title="AES(5 %)"),
    Shown(name="ees_blocks", title="EES_blocks"),
    Shown(name="ees_per_character", title="EES per character"),
    Shown(name="bits_per_character", title="Bits per character"),
)


def shown(known: Iterable[Shown], present: set[str]) -> list[Shown]:
    """Those of the known figures that are present, then the others that are, by their bare names."""
    listed = list(known)
    unknown = sorted(present - {figure.name for figure in listed})
    return [figure for figure in listed if figure.name in present] + [
        Shown(name=name, title=name.replace("_", " ")) for name in unknown
    ]
