"""How the hidden state changes from depth to depth, streamed over the tokens of a trace."""

from exitbench.representation.record import Pairs, Representation

__all__ = ["Pairs", "Representation"]
