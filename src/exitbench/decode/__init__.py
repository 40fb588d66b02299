"""Real early-exit decoding: the loop, what it keeps of skipped blocks, what it takes and what it changes."""
