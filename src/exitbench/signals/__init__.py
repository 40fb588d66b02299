"""Signals: one number per (token, depth), computed from the readout or the hidden states at that depth."""

from exitbench.signals import final, hidden, prediction
from exitbench.signals.compute import compute_signals
from exitbench.signals.registry import SIGNALS, Signal, signal
from exitbench.signals.view import DepthView

# Importing these three registers the built-in signals.
_BUILT_IN = (final, hidden, prediction)

__all__ = ["SIGNALS", "DepthView", "Signal", "compute_signals", "signal"]
