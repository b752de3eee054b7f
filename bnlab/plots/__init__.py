"""Figures: each function takes a result and an optional Axes, draws, and returns the Axes."""
