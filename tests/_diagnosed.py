"""Models, batches and optimizers for the tests of the command `bnlab diagnose`."""

import torch
from torch import nn


def healthy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()).eval()


def spoiled():
    model = healthy()
    model[1].momentum = 0.99
    return model


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.BatchNorm1d(6))


def optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)


def fails():
    raise RuntimeError("no weights here")


def run(model, batch):
    return model(batch["x"])


INSTANCE = spoiled()
BATCHES = [torch.randn(16, 4, generator=torch.Generator().manual_seed(i)) for i in range(3)]
DICTS = [{"x": x} for x in BATCHES]


def loader():
    yield from BATCHES
