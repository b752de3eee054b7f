"""Batch Normalization, explained and computed."""

__version__ = "0.1.0"
