"""Models: where they come from, how they are loaded, and how the proof that our view of them is right is made."""
