"""Train by plain stochastic gradient descent, the same way every time: one model, or many at once."""

from bnlab.training.ensemble import Ensemble, Evaluation, Member
from bnlab.training.runs import train_ensemble
from bnlab.training.sgd import (
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
    "Member",
    "accuracy",
    "seed_everything",
    "shuffled_batches",
    "shuffled_epochs",
    "tensors",
    "train",
    "train_ensemble",
]
