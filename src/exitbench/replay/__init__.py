"""From recorded signals to what a policy would save: nothing here needs a model, or torch."""

__all__: list[str] = []
