"""Experiments: one module per topic; each function takes a configuration and returns a result."""
