"""Train by plain stochastic gradient descent, the same way every time: one model, or many at once."""

from bnlab.training.ensemble import Ensemble, Evaluation, Member
from bnlab.training.sgd import (
    History,
    accuracy,
    seed_everything,
    shuffled_batches,
    shuffled_epochs,
    tensors,
    train,
)

__all__ = [
    "Ensemble",
    "Evaluation",
    "History",
    "Member",
    "accuracy",
    "seed_everything",
    "shuffled_batches",
    "shuffled_epochs",
    "tensors",
    "train",
]
