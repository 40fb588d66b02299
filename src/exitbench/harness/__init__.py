"""EleutherAI's lm-evaluation-harness: its tasks answered with early exit, and MaxSkip, which is judged by them.

Nothing here is imported by the rest of exitbench but on request: `lm_eval` is an extra, and takes seconds to import.
"""

__all__: list[str] = []
