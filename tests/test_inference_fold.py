"""Folding a whole model: every kind of pair, real architectures, and everything that must stay."""

import copy
import dataclasses
import itertools
import pickle

import pytest
import torch
from _networks import COPIES, normal, norms, settled
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

import bnlab.nn
from bnlab import inference
from bnlab.chapters.convolutional_batchnorm.small_nets import mobile_net, residual_net
from bnlab.models import convnet, mlp
from bnlab.nn.functional import batch_norm

LINEAR = [(nn.Linear, {}, (5, 6))]
CONVOLUTIONS = [
    (kind, {"kernel_size": 3, "groups": groups, "stride": 2}, (2, 6, *(7, 6, 5)[:d]))
    for d, kinds in {
        1: (nn.Conv1d, nn.ConvTranspose1d),
        2: (nn.Conv2d, nn.ConvTranspose2d),
        3: (nn.Conv3d, nn.ConvTranspose3d),
    }.items()
    for kind in kinds
    for groups in (1, 2, 6)
]
FAMILIES = {
    "torch": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    "bnlab": (bnlab.nn.BatchNorm1d, bnlab.nn.BatchNorm2d, bnlab.nn.BatchNorm3d),
    "sync": (nn.SyncBatchNorm,) * 3,
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kind", "options", "shape"),
    LINEAR + CONVOLUTIONS,
    ids=lambda v: v.__name__ if isinstance(v, type) else None,
)
def test_every_pair_becomes_one_layer(kind, options, shape, bias, family, affine):
    norm = FAMILIES[family][max(len(shape) - 3, 0)](12, affine=affine)
    model = settled(nn.Sequential(kind(6, 12, bias=bias, **options), norm, nn.Tanh())).double()
    x = normal(*shape, dtype=torch.float64)
    expected = model(x)
    result = inference.fold(model, x)
    assert result.folded == (("0", "1"),)
    assert result.left == ()
    assert norms(result.model) == []
    assert type(result.model.get_submodule("0")) is kind
    torch.testing.assert_close(result.model(x), expected, rtol=1e-12, atol=1e-12)
    assert result.max_error == (result.model(x) - expected).abs().max().item()
    assert result.max_output == expected.abs().max().item()
    y = normal(*shape, seed=1, dtype=torch.float64)[:1]
    torch.testing.assert_close(result.model(y), model(y), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, bnlab.nn.BatchNorm2d], ids=["torch", "ours"])
@pytest.mark.parametrize(
    ("build", "folded", "left"),
    [(residual_net, 10, 3), (mobile_net, 13, 0)],
    ids=["residual", "mobile"],
)
def test_real_architectures(build, folded, left, norm):
    model, x = build(norm=norm), normal(4, 1, 28, 28)
    result = inference.fold(model, x)
    assert (len(result.folded), len(result.left)) == (folded, left)
    assert len(norms(model)) == folded + left
    assert len(norms(result.model)) == left
    assert result.max_error < 1e-5 * result.max_output
    double = inference.fold(model.double(), x.double())
    assert double.max_error < 1e-13 * double.max_output


def test_the_report_names_what_was_done():
    result = inference.fold(residual_net(width=4), normal(2, 1, 28, 28))
    assert result.folded[0] == ("0", "1")
    assert ("4.shortcut.0", "4.shortcut.1") in result.folded
    assert result.left == (
        ("6.path.0", "follows 5.act, a ReLU"),
        ("7.path.0", "follows add_3, which is not a layer"),
        ("8", "follows add_4, which is not a layer"),
    )
    assert "10 folded, 3 left; outputs up to" in str(result)
    assert "folded 1 into 0" in str(result)


@pytest.mark.parametrize(
    "model",
    [
        convnet(channels=(4, 5), norm=bnlab.nn.BatchNorm2d, dropout=0.5, lrn=True),
        mlp([784, 6, 5, 10], norm=nn.BatchNorm1d),
    ],
    ids=["convnet", "mlp"],
)
def test_models_of_the_book_fold_completely(model):
    result = inference.fold(settled(model), normal(3, 784))
    assert [pair[1] for pair in result.folded] == ["norm1", "norm2"]
    assert norms(result.model) == []
    assert result.max_error < 1e-5 * result.max_output


# ---- what has to stay ---------------------------------------------------------------------------


class Net(nn.Module):
    """A model whose forward pass is given as a function of the module and its input."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input).relu()


class PaddedConv(nn.Conv2d):
    def forward(self, input):
        return super().forward(F.pad(input, (1, 1, 1, 1), value=1.0))


class LikeFrozen(nn.Module):
    """Written like the FrozenBatchNorm2d of detectron2: buffers only, and a branch that torch.fx cannot trace."""

    def __init__(self, features, after=None):
        super().__init__()
        rng = torch.Generator().manual_seed(3)
        for name in ("weight", "bias", "running_mean"):
            self.register_buffer(name, torch.randn(features, generator=rng))
        self.register_buffer("running_var", torch.rand(features, generator=rng) + 0.1)
        self.after = after

    def forward(self, x):
        scale = self.weight * (self.running_var + 1e-3).rsqrt()
        shift = self.bias - self.running_mean * scale
        if x.requires_grad:
            x = x * 1
        y = x * scale[:, None, None] + shift[:, None, None]
        return y if self.after is None else self.after(y)


def hooked(layer):
    layer.register_forward_hook(lambda module, args, output: output + 1)
    return layer


def monkeypatched(layer):
    original = layer.forward
    layer.forward = lambda x: original(x) + 1
    return layer


def conv(**options):
    return nn.Conv2d(3, 3, 3, padding=1, **options)


IMAGE, ROWS = (2, 3, 5, 5), (4, 3)
STAY = {
    "after a nonlinearity": (
        Net(lambda m, x: m.bn(m.act(m.conv(x))), conv=conv(), act=nn.ReLU(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "follows act, a ReLU"},
    ),
    "after a pooling": (
        nn.Sequential(conv(), nn.MaxPool2d(2), nn.BatchNorm2d(3)), IMAGE, {"2": "follows 1, a MaxPool2d"},
    ),
    "after a sum": (
        Net(lambda m, x: m.bn(m.conv(x) + x), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "follows add, which is not a layer"},
    ),
    "after a function": (
        Net(lambda m, x: m.bn(F.conv2d(x, m.conv.weight)), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "follows conv2d, which is not a layer"},
    ),
    "first of all": (
        nn.Sequential(nn.BatchNorm2d(3), conv()), IMAGE, {"0": "is the first layer"},
    ),
    "alone": (nn.BatchNorm2d(3), IMAGE, {"0": "is the first layer"}),
    "branch": (
        Net(lambda m, x: (lambda y: m.bn(y) + y)(m.conv(x)), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "the output of conv is used elsewhere too"},
    ),
    "output in place": (
        Net(lambda m, x: (lambda y: (y.add_(1), m.bn(y))[1])(m.conv(x)), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "the output of conv is used elsewhere too"},
    ),
    "output returned": (
        Net(lambda m, x: (lambda y: (m.bn(y), y))(m.conv(x)), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "the output of conv is used elsewhere too"},
    ),
    "shared layer": (
        Net(lambda m, x: m.conv(m.bn(m.conv(x))), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "the layer before it, conv, is shared: it is called 2 times"},
    ),
    "shared norm": (
        Net(lambda m, x: m.bn(m.b(m.bn(m.a(x)))), a=conv(), b=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "is shared: it is called 2 times"},
    ),
    "weight read elsewhere": (
        Net(lambda m, x: m.bn(m.conv(x)) * m.conv.weight.sum(), conv=conv(), bn=nn.BatchNorm2d(3)),
        IMAGE, {"bn": "a parameter of conv is used elsewhere too"},
    ),
    "no statistics": (
        nn.Sequential(conv(), nn.BatchNorm2d(3, track_running_stats=False)),
        IMAGE, {"1": "has no running statistics"},
    ),
    "norm with more in it": (
        nn.Sequential(conv(), ActivatedNorm(3)), IMAGE, {"1": "its class ActivatedNorm has a forward pass"},
    ),
    "norm with a patched forward": (
        nn.Sequential(conv(), monkeypatched(nn.BatchNorm2d(3))), IMAGE, {"1": "its class BatchNorm2d has"},
    ),
    "convolution with more in it": (
        nn.Sequential(PaddedConv(3, 3, 3), nn.BatchNorm2d(3)), IMAGE, {"1": "not a layer"},
    ),
    "hooked norm": (
        nn.Sequential(conv(), hooked(nn.BatchNorm2d(3))), IMAGE, {"1": "has forward hooks"},
    ),
    "hooked convolution": (
        nn.Sequential(hooked(conv()), nn.BatchNorm2d(3)), IMAGE, {"1": "before it, 0, has forward hooks"},
    ),
    "linear on a sequence": (
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), (2, 4, 3),
        {"1": "0 returns a tensor of 3 axes, whose features are not on axis 1"},
    ),
    "convolution without a batch axis": (
        nn.Sequential(nn.Conv1d(3, 3, 3, padding=1), nn.BatchNorm1d(5)), (3, 5),
        {"1": "0 returns a tensor of 2 axes"},
    ),
    "inside a module that stays whole": (
        nn.Sequential(nn.DataParallel(nn.Sequential(conv(), nn.BatchNorm2d(3))), nn.ReLU()), IMAGE,
        {"0.module.1": "is inside 0, a DataParallel, which torch.fx does not look into"},
    ),
    "a function by the batch": (
        Net(lambda m, x: F.batch_norm(m.conv(x), None, None, training=True), conv=conv()),
        IMAGE, {"batch_norm": "is a call of a function, and normalizes by the batch"},
    ),
    "first, before padding": (
        nn.Sequential(nn.BatchNorm2d(3), nn.Identity(), conv()), IMAGE,
        {"0": "is the first layer, there is none before it; and 2 after it pads with zeros"},
    ),
    "first, before a transposed one": (
        nn.Sequential(nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 4, 3)), IMAGE, {"0": "1 after it is transposed"},
    ),
    "first, before a shared one": (
        Net(lambda m, x: m.conv(m.conv(m.bn(x))), bn=nn.BatchNorm2d(3), conv=nn.Conv2d(3, 3, 1)),
        IMAGE, {"bn": "the layer after it, conv, is shared: it is called 2 times"},
    ),
    "first, before a hooked one": (
        nn.Sequential(nn.BatchNorm2d(3), hooked(nn.Conv2d(3, 3, 1))), IMAGE,
        {"0": "the layer after it, 1, has forward hooks"},
    ),
    "first, before a linear one on the last axis": (
        nn.Sequential(nn.BatchNorm1d(4), nn.Linear(3, 3)), (2, 4, 3), {"0": "1 gets a tensor of 3 axes"},
    ),
    "first, read twice": (
        Net(lambda m, x: (lambda y: m.fc(y) + y)(m.bn(x)), bn=nn.BatchNorm1d(3), fc=nn.Linear(3, 3)),
        ROWS, {"bn": "is the first layer"},
    ),
    "an identity that is read twice": (
        Net(
            lambda m, x: (lambda y: m.bn(y) + y)(m.same(m.conv(x))),
            conv=conv(), same=nn.Identity(), bn=nn.BatchNorm2d(3),
        ),
        IMAGE, {"bn": "the output of conv is used elsewhere too"},
    ),
    "a hooked identity": (
        nn.Sequential(conv(), hooked(nn.Identity()), nn.BatchNorm2d(3)), IMAGE, {"2": "follows 1, an Identity"},
    ),
    "a class with statistics that does more": (
        nn.Sequential(conv(), LikeFrozen(3, after=torch.relu)), IMAGE,
        {"1": "its class LikeFrozen has running statistics, but is not a scale and shift"},
    ),
    "a function": (
        Net(lambda m, x: F.batch_norm(m.conv(x), m.mean, x.var((0, 2, 3))), conv=conv(), mean=nn.Buffer(torch.ones(3))),
        IMAGE, {"batch_norm": "is a call of a function, with statistics or parameters that are computed"},
    ),
    "our function": (
        Net(lambda m, x: batch_norm(m.conv(x), m.mean, x.var((0, 2, 3))), conv=conv(), mean=nn.Buffer(torch.ones(3))),
        IMAGE, {"batch_norm": "is a call of a function, with statistics or parameters that are computed"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STAY)
def test_what_cannot_be_folded_stays_and_is_reported(case):
    model, shape, left = STAY[case]
    model, x = settled(model), normal(*shape)
    result = inference.fold(model, x)
    assert result.folded == ()
    assert [name for name, _ in result.left] == list(left)
    for name, reason in result.left:
        assert left[name] in reason
        assert f"left {name}: {reason}" in str(result)
    assert len(norms(result.model)) == len(norms(model))
    assert result.max_error == 0.0
    expected, given = model(x), result.model(x)
    torch.testing.assert_close(given, expected, rtol=0, atol=0)


# ---- more that can be folded ---------------------------------------------------------------------


class Statistics(nn.Module):
    """Holds what the functional form of batch norm takes."""

    def __init__(self, features, bias=True):
        super().__init__()
        bn = settled(nn.BatchNorm1d(features), seed=4)
        for name in ("running_mean", "running_var"):
            self.register_buffer(name, getattr(bn, name))
        self.weight, self.bias = bn.weight, bn.bias if bias else None


def by_function(function):
    def forward(m, x):
        s = m.s
        y = F.dropout(m.conv(x), 0.5, m.training)
        return function(y, s.running_mean, s.running_var, s.weight, bias=s.bias, eps=0.01)

    return forward


def raw(x, mean, var, weight, bias, eps):
    return torch.batch_norm(x, weight, bias, mean, var, False, 0.1, eps, False)


CHAINS = {
    "identity": (nn.Sequential(conv(), nn.Identity(), nn.BatchNorm2d(3)), IMAGE, [("0", "2")]),
    "dropout": (
        nn.Sequential(conv(), nn.Dropout(0.3), nn.Dropout2d(), nn.BatchNorm2d(3)), IMAGE, [("0", "3")],
    ),
    "before a linear layer": (
        nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(), nn.Linear(3, 5)), ROWS, [("2", "0")],
    ),
    "before a convolution": (
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, stride=2)), IMAGE, [("2", "1")],
    ),
    "before one with groups": (
        nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 9, 2, groups=3, bias=False)), (2, 6, 5, 5), [("1", "0")],
    ),
    "before one that copies its border": (
        nn.Sequential(nn.BatchNorm1d(3), nn.Conv1d(3, 4, 3, padding="same", padding_mode="circular")),
        (2, 3, 7), [("1", "0")],
    ),
    "before one of three dimensions": (
        nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 4, 2, padding="valid")), (2, 3, 4, 4, 4), [("1", "0")],
    ),
    "the layer before comes first": (
        nn.Sequential(conv(), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)), IMAGE, [("0", "1")],
    ),
    "like torchvision's frozen one": (nn.Sequential(conv(), LikeFrozen(3)), IMAGE, [("0", "1")]),
    "function": (
        Net(by_function(F.batch_norm), conv=conv(), s=Statistics(3)), IMAGE, [("conv", "batch_norm")],
    ),
    "function without beta": (
        Net(by_function(F.batch_norm), conv=conv(), s=Statistics(3, bias=False)), IMAGE, [("conv", "batch_norm")],
    ),
    "our function": (
        Net(by_function(batch_norm), conv=conv(), s=Statistics(3)), IMAGE, [("conv", "batch_norm")],
    ),
    "raw function": (Net(by_function(raw), conv=conv(), s=Statistics(3)), IMAGE, [("conv", "batch_norm")]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS)
def test_more_that_can_be_folded(case):
    model, shape, folded = CHAINS[case]
    model = settled(model.double())
    result = inference.fold(model, normal(*shape, dtype=torch.float64))
    assert result.folded == tuple(folded)
    assert result.left == ()
    assert not any("running" in key for key in result.model.state_dict())
    x = 3 * normal(*shape, seed=8, dtype=torch.float64) + 1
    torch.testing.assert_close(result.model(x), model(x), rtol=1e-10, atol=1e-10)


def test_numbers_that_cancel_are_no_error():
    linear, bn = nn.Linear(1, 1), nn.BatchNorm1d(1)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(0.1)
        bn.running_mean.fill_(0.1)
        bn.running_var.fill_(1e-6)
        bn.weight.fill_(3.0)
    result = inference.fold(nn.Sequential(linear, bn).eval(), torch.zeros(2, 1))
    assert result.folded == (("0", "1"),)
    assert result.max_error > 0.01 * result.max_output  # it is more than a share of the output


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(), nn.BatchNorm2d(3)

    def forward(self, input, scale=2.0, mask=None, *, shift, extra=None):
        y = self.bn(self.conv(input)) * scale + shift
        y = y if extra is None else y + extra
        return y if mask is None else y * mask


@pytest.mark.parametrize("names", [("shift",), ("shift", "mask"), ("shift", "extra", "scale")])
def test_arguments_by_name(names):
    model, x = settled(Keywords()), normal(*IMAGE)
    values = {"shift": torch.ones(5), "mask": torch.rand(5), "extra": torch.ones(1), "scale": 3.0}
    kwargs = {name: values[name] for name in names}
    result = inference.fold(model, x, kwargs)
    assert result.folded == (("conv", "bn"),)
    torch.testing.assert_close(result.model(x, **kwargs), model(x, **kwargs))
    other = kwargs | {"shift": torch.full((5,), -4.0)}
    torch.testing.assert_close(result.model(x, **other), model(x, **other))
    by_name = inference.fold(model, (), {"input": x} | kwargs)
    torch.testing.assert_close(by_name.model(x, **other), model(x, **other))


@pytest.mark.parametrize("way", ["program", "module"])
def test_what_torch_exported_is_refused_with_advice_that_works(way):
    build = lambda: nn.Sequential(conv(), nn.BatchNorm2d(3))  # noqa: E731
    model, x = settled(build()), normal(*IMAGE)
    program = torch.export.export(model, (x,))
    exported = program if way == "program" else program.module()
    with pytest.raises(TypeError, match=r"torch\.export.*load_state_dict\(program\.state_dict\)"):
        inference.fold(exported, x)
    again = build().eval()
    again.load_state_dict(program.state_dict)
    assert inference.fold(again, x).folded == (("0", "1"),)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # by torch about itself
def test_a_shared_convolution_that_torch_fx_corrupts_is_left():
    from torch.fx.experimental import optimization

    net = Net(lambda m, x: m.conv(m.bn(m.conv(x))), conv=conv(), bn=nn.BatchNorm2d(3))
    model, x = settled(net), normal(*IMAGE)
    expected = model(x)
    theirs = optimization.fuse(model)(x)
    assert (theirs - expected).abs().max() > 0.1 * expected.abs().max()
    result = inference.fold(model, x)
    assert (result.folded, result.max_error) == ((), 0.0)


def test_the_others_are_folded_all_the_same():
    model = settled(
        nn.Sequential(nn.BatchNorm2d(3), conv(), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
    )
    result = inference.fold(model, normal(*IMAGE))
    assert result.folded == (("1", "2"),)
    assert [name for name, _ in result.left] == ["0", "4"]


# ---- the original, the copy, the call -----------------------------------------------------------


def test_the_original_is_untouched_and_shares_nothing():
    model, x = residual_net(width=4), normal(2, 1, 28, 28)
    before = copy.deepcopy(model.state_dict())
    expected, randomness = model(x), torch.get_rng_state()
    result = inference.fold(model, x)
    assert torch.equal(torch.get_rng_state(), randomness)
    with torch.no_grad():
        for value in itertools.chain(result.model.parameters(), result.model.buffers()):
            value.fill_(7)
    result.model.train()
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert not any(part.training for part in model.modules())
    assert torch.equal(model(x), expected)


def test_the_folded_model_holds_no_trace_of_what_was_folded():
    result = inference.fold(mobile_net(width=4), normal(2, 1, 28, 28))
    assert not any("running" in key for key in result.model.state_dict())
    assert not result.model.training
    result.model.graph.lint()


@pytest.mark.parametrize("way", [*COPIES, "compile", "export"])
def test_the_folded_model_is_a_model_like_any_other(way):
    x = normal(2, 1, 28, 28)
    model = inference.fold(residual_net(width=4), x).model
    if way in COPIES:
        twin = COPIES[way](model)
    elif way == "compile":
        twin = torch.compile(model, fullgraph=True, backend="aot_eager")
    else:
        twin = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(twin(x), model(x))


def test_twice_is_once():
    model, x = residual_net(width=4), normal(2, 1, 28, 28)
    once = inference.fold(model, x)
    twice = inference.fold(once.model, x)
    assert twice.folded == ()
    assert len(twice.left) == len(once.left)
    assert twice.max_error == 0.0


def test_several_arguments_keywords_and_nested_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.bn = nn.Linear(3, 3), nn.BatchNorm1d(3)

        def forward(self, a, b):
            y = self.bn(input=self.fc(a))
            return {"y": y, "rest": (b, y.argmax())}

    model, inputs = settled(Two()), (normal(*ROWS), normal(2))
    result = inference.fold(model, inputs)
    assert result.folded == (("fc", "bn"),)
    torch.testing.assert_close(result.model(*inputs), model(*inputs))


def test_a_transposed_convolution_called_with_an_output_size():
    class Up(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.bn = nn.ConvTranspose2d(3, 4, 3, stride=2, groups=1), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.bn(self.up(x, output_size=(12, 12)))

    result = inference.fold(settled(Up()), normal(*IMAGE))
    assert result.folded == (("up", "bn"),)
    assert result.model(normal(*IMAGE)).shape == (2, 4, 12, 12)


def test_a_parametrized_layer_is_folded_with_the_weight_it_has():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4)), nn.BatchNorm1d(4))
    result = inference.fold(settled(model), normal(*ROWS))
    assert result.folded == (("0", "1"),)
    assert type(result.model.get_submodule("0")) is nn.Linear


def test_frozen_norms_fold_too():
    model = settled(nn.Sequential(conv(), nn.BatchNorm2d(3)))
    inference.freeze(model)
    assert inference.fold(model, normal(*IMAGE)).folded == (("0", "1"),)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    model = settled(nn.Sequential(conv(), nn.BatchNorm2d(3))).to(dtype)
    result = inference.fold(model, normal(*IMAGE).to(dtype))
    assert result.folded == (("0", "1"),)
    assert 0 < result.max_error < 4 * torch.finfo(dtype).eps * result.max_output


def test_neither_the_example_nor_the_state_of_the_model_changes():
    class Restless(Net):
        calls = 0

        def forward(self, x):
            self.calls += 1
            self.seen.add_(1)
            return self.bn(self.conv(x.sub_(0.5)))

    model = settled(
        Restless(None, conv=conv(), bn=nn.BatchNorm2d(3), seen=nn.Buffer(torch.zeros(())))
    )
    x = normal(*IMAGE)
    result = inference.fold(model, x)
    assert result.folded == (("conv", "bn"),)
    assert (model.calls, model.seen.item()) == (0, 0)
    assert torch.equal(x, normal(*IMAGE))


class Optional(nn.Module):
    """Has arguments that may be left out, and decide what is computed."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = conv(), nn.BatchNorm2d(3)

    def forward(self, x, mask=None, mask_1=None, both=False, scale=2.0, *, name="x", **others):
        y = self.bn(self.conv(x)) * scale
        y = y if mask is None else y * mask
        y = y if mask_1 is None else y + mask_1
        return (y, x) if both or name == "both" else y


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ([], []),
        ([torch.full((5,), 3.0)], [0]),
        ([None, torch.full((5,), 3.0)], [1]),
        ([None, None, True], []),
        ([None, torch.full((5,), 3.0), False, 3.0], [1]),
    ],
    ids=["none", "mask", "second mask", "flag", "all"],
)
@pytest.mark.parametrize("way", ["call", "pickle", "compile", "export"])
def test_arguments_that_decide_are_fixed(arguments, taken, way):
    model, x = settled(Optional()), normal(*IMAGE)
    result = inference.fold(model, (x, *arguments))
    assert result.folded == (("conv", "bn"),)
    expected, inputs = model(x, *arguments), (x, *(arguments[i] for i in taken))
    twin = {
        "call": lambda m: m,
        "pickle": lambda m: pickle.loads(pickle.dumps(m)),
        "compile": lambda m: torch.compile(m, fullgraph=True, backend="eager"),
        "export": lambda m: torch.export.export(m, inputs).module(),
    }[way](result.model)
    torch.testing.assert_close(twin(*inputs), expected)


def test_any_number_of_arguments():
    class Rest(Net):
        def forward(self, *inputs, **others):
            return self.bn(self.fc(inputs[0])) + inputs[1]

    model = settled(Rest(None, fc=nn.Linear(3, 3), bn=nn.BatchNorm1d(3)))
    inputs = normal(*ROWS), normal(*ROWS, seed=1)
    result = inference.fold(model, inputs)
    assert result.folded == (("fc", "bn"),)
    torch.testing.assert_close(result.model(*inputs), model(*inputs))


def test_a_number_stays_an_argument_as_long_as_nothing_depends_on_it():
    net = Net(None, fc=nn.Linear(3, 3), bn=nn.BatchNorm1d(3))
    kind = type(
        "Scaled", (Net,), {"forward": lambda self, x, scale=2.0: self.bn(self.fc(x)) * scale}
    )
    net.__class__ = kind
    model, x = settled(net), normal(*ROWS)
    folded = inference.fold(model, x).model
    torch.testing.assert_close(folded(x), model(x))
    torch.testing.assert_close(folded(x, scale=5.0), model(x, scale=5.0))


def test_heads_that_the_pass_does_not_reach_are_dropped():
    model = Net(
        lambda m, x: m.bn(m.conv(x)), conv=conv(), bn=nn.BatchNorm2d(3), aux=nn.BatchNorm2d(3)
    )
    result = inference.fold(settled(model), normal(*IMAGE))
    assert (result.folded, result.left) == ((("conv", "bn"),), ())
    assert not hasattr(result.model, "aux")


@dataclasses.dataclass
class Output:
    y: torch.Tensor
    rest: tuple = ()


@pytest.mark.parametrize("wrap", [Output, lambda y: {"out": [Output(1.5, (y,))]}])
def test_outputs_in_dataclasses_are_compared(wrap):
    model = settled(Net(lambda m, x: wrap(m.bn(m.fc(x))), fc=nn.Linear(3, 3), bn=nn.BatchNorm1d(3)))
    largest = model.bn(model.fc(normal(*ROWS))).abs().max().item()
    assert inference.fold(model, normal(*ROWS)).max_output == largest


def test_complex_outputs_are_compared_with_their_imaginary_part():
    model = settled(Net(lambda m, x: m.bn(m.fc(x)) * 1j, fc=nn.Linear(3, 3), bn=nn.BatchNorm1d(3)))
    result = inference.fold(model, normal(*ROWS))
    assert result.max_output == model(normal(*ROWS)).abs().max().item() > 0


def test_the_order_in_memory_is_kept():
    model = settled(nn.Sequential(conv(), nn.BatchNorm2d(3))).to(memory_format=torch.channels_last)
    result = inference.fold(model, normal(*IMAGE))
    assert result.model.get_submodule("0").weight.is_contiguous(memory_format=torch.channels_last)
    assert result.model(normal(*IMAGE)).is_contiguous(memory_format=torch.channels_last)


# ---- refused ------------------------------------------------------------------------------------


def branching(m, x):
    return m.bn(m.fc(x)) if x.sum() > 0 else m.fc(x)


def looping(m, x):
    for row in x:
        row = m.bn(m.fc(row[None]))
    return row


def random_in_evaluation(m, x):
    return m.bn(m.fc(x)) + torch.rand(1)


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (branching, r"torch\.fx cannot trace the model, a Net \(.*control flow.*fold_linear"),
        (looping, r"torch\.fx cannot trace the model, a Net"),
        (random_in_evaluation, "more than rounding; expected a model that computes a fixed"),
        (lambda m, x: m.bn(m.fc(x)) / 0, "an output on example_input is NaN or Inf"),
    ],
    ids=["branching", "looping", "random", "infinite"],
)
def test_models_that_no_graph_can_stand_for(forward, message):
    model = settled(Net(forward, fc=nn.Linear(3, 3), bn=nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match=message):
        inference.fold(model, normal(*ROWS))


def test_training_mode_is_refused_wherever_it_is():
    model, x = nn.Sequential(conv(), nn.BatchNorm2d(3)), normal(*IMAGE)
    with pytest.raises(ValueError, match=r"model is in training mode.*model\.eval\(\)"):
        inference.fold(model, x)
    model.eval()[1].train()
    with pytest.raises(ValueError, match="1 is in training mode"):
        inference.fold(model, x)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"model is a str; expected a torch\.nn\.Module"):
        inference.fold("model", normal(*ROWS))


def test_an_error_of_the_model_itself_is_its_own():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        inference.fold(settled(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))), normal(4, 5))


@pytest.mark.parametrize("fold", [inference.fold_conv])
@pytest.mark.parametrize("norm", [ActivatedNorm(3), monkeypatched(nn.BatchNorm2d(3))])
def test_one_pair_refuses_a_norm_with_more_in_it(fold, norm):
    with pytest.raises(TypeError, match="whose forward pass is its own"):
        fold(conv(), norm.eval())


def test_what_holds_no_numbers_is_refused():
    with torch.device("meta"):
        model, x = nn.Sequential(conv(), nn.BatchNorm2d(3)).eval(), torch.empty(*IMAGE)
    with pytest.raises(ValueError, match=r"0\.weight of model is on the meta device.*to_empty"):
        inference.fold(model, x)
    with pytest.raises(ValueError, match="weight of bn is on the meta device"):
        inference.fold_conv(conv(), model[1])
    with pytest.raises(ValueError, match="weight of conv is on the meta device"):
        inference.fold_conv(model[0], nn.BatchNorm2d(3).eval())


@pytest.mark.parametrize("forward", [lambda m, x: None, lambda m, x: m.bn(m.fc(x[:0]))])
def test_nothing_to_compare_is_refused(forward):
    model = settled(Net(forward, fc=nn.Linear(3, 3), bn=nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match=r"without a number in it.*example_input empty"):
        inference.fold(model, normal(*ROWS))


@pytest.mark.parametrize(
    "wrap",
    [lambda m: torch.jit.script(m), lambda m: torch.compile(m, backend="eager"), nn.DataParallel],
    ids=["script", "compile", "DataParallel"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_wrapped_models_are_refused_with_advice(wrap):
    model = wrap(settled(nn.Sequential(conv(), nn.BatchNorm2d(3)))).eval()
    with pytest.raises(ValueError, match=r"not wrapped yet: fold before torch\.compile"):
        inference.fold(model, normal(*IMAGE))


def test_a_model_that_cannot_be_copied_is_refused_with_advice():
    layer = conv()
    prune.l1_unstructured(layer, "weight", 0.5)
    model = settled(nn.Sequential(layer, nn.BatchNorm2d(3)))
    with pytest.raises(ValueError, match=r"cannot be copied.*prune\.remove"):
        inference.fold(model, normal(*IMAGE))
    prune.remove(layer, "weight")
    assert inference.fold(model, normal(*IMAGE)).folded == (("0", "1"),)


def test_a_hook_of_the_model_itself_is_noticed():
    model = hooked(settled(nn.Sequential(conv(), nn.BatchNorm2d(3))))
    with pytest.raises(ValueError, match="hooks of the model itself"):
        inference.fold(model, normal(*IMAGE))


def test_a_pair_without_numbers_is_named():
    model = settled(
        nn.Sequential(conv(), nn.BatchNorm2d(3), nn.Sequential(conv(), nn.BatchNorm2d(3)))
    )
    model[2][1].running_mean[1] = torch.nan
    with pytest.raises(ValueError, match=r"folding 2\.1 into 2\.0: the folded layer holds NaN"):
        inference.fold(model, normal(*IMAGE))
