"""Speed of bnlab beside its peers, as ratios within one run; `python -m benchmarks --help`."""
