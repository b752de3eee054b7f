r"""What Batch Normalization needs after training: population statistics, folding, freezing.

Everything works on the layers of :mod:`torch.nn` and on any layer that derives from them. Features
are axis 1 of a tensor (N, C) or (N, C, \*spatial).
"""

from bnlab.inference.conversion import convert
from bnlab.inference.fold_graph import Folded, fold
from bnlab.inference.folding import fold_conv, fold_linear
from bnlab.inference.freezing import check_frozen, freeze, unfreeze
from bnlab.inference.momentum import convert_momentum, half_life
from bnlab.inference.statistics import population_statistics, recalibrate
from bnlab.inference.swapping import swap
from bnlab.inference.synchronizing import desynchronize, synchronize

__all__ = [
    "Folded",
    "check_frozen",
    "convert",
    "convert_momentum",
    "desynchronize",
    "fold",
    "fold_conv",
    "fold_linear",
    "freeze",
    "half_life",
    "population_statistics",
    "recalibrate",
    "swap",
    "synchronize",
    "unfreeze",
]
