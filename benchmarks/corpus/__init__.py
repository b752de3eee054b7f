"""Models with planted faults, and healthy ones: what `bnlab.diagnose` is measured on, and a peer beside it."""
