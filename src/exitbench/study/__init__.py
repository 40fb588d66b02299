"""Studies: many models on many workloads, what they show of one another, and how that changes while a model trains."""
