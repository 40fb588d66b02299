"""Replay: exit policies applied to a trace, what they would save, change and cost. No model, no torch."""

__all__: list[str] = []
