"""Random tensors, and networks whose norms are away from their defaults, for the tests of inference."""

import copy
import io
import pickle

import torch
from torch import nn


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def settled(model, seed=0):
    """Take gamma, beta and the running statistics of every norm away from their defaults."""
    source = generator(seed)
    with torch.no_grad():
        for layer in norms(model):
            if layer.affine:
                layer.weight.uniform_(-1.5, 1.5, generator=source)
                layer.bias.normal_(generator=source)
            if layer.running_mean is not None:
                layer.running_mean.normal_(generator=source)
                layer.running_var.uniform_(0.3, 3.0, generator=source)
    return model.eval()


def by_deepcopy(model):
    return copy.deepcopy(model)


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


def by_torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": by_deepcopy, "pickle": by_pickle, "torch.save": by_torch_save}
