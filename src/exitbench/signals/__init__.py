"""Signals: one number per (token, depth), computed from the readout or the hidden states at that depth."""
