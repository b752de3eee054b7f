"""Results of the benchmarks, made by hand."""

import numpy as np

from bnlab.chapters.making_it_fast.results import EnsembleSpeed, SpeedTable


def handmade(ratio=1.0):
    """Return a table in which every contestant takes `ratio` times the baseline's millisecond."""
    names = (
        "torch native",
        "NumPy in blocks",
        "bnlab.nn",
        "bnlab.nn, compiled",
        "bnlab.nn, kernels",
    )
    shapes, size = ((60, 100), (1000, 250), (2, 3, 4, 5)), (2, 2, 3, 5)
    values = np.full(size, ratio)
    values[..., 0] = 1
    return SpeedTable(
        contestants=names, baseline=names[0], passes=("forward", "forward + backward"),
        shapes=shapes, threads=(1, 2), rounds=3, milliseconds=values, ratio=values.copy(), low=values,
        high=values, bandwidth=np.full((2, 3), 5e9), peak=np.full(2, 1e11),
        growth_contestants=names[:1], growth_rows=np.array([1, 2, 4]), growth_features=np.array([1, 2, 4]),
        growth_fixed=(1, 1), rows_milliseconds=np.ones((1, 3)), features_milliseconds=np.ones((1, 3)),
        folding_pairs=("pair",), folding_ratio=np.ones((2, 1, 3)),
    )  # fmt: skip


def many(cost=0.4, share=0.6, machine=4.0):
    """Return the speed of an ensemble of 2 and of 8, every quartile at its median."""
    three = np.ones((2, 3))
    return EnsembleSpeed(
        arms=("without BN", "with BN"), rounds=3, flops=26_000_000, eager_microseconds=np.array([500.0, 600.0]),
        members=np.array([2, 8]), cost=np.stack([0.9 * three, cost * three], axis=1),
        vmap_members=np.array([8]), vmap_cost=np.full((2, 1, 3), 0.95), chosen=8, product_rate=1e11,
        share=share * three, processes=2, machine=machine * three,
    )  # fmt: skip
