"""Traces: the recorded signals of a model on a workload, and how they are collected, stored and resumed."""
