"""`diagnose`: it changes nothing, reads once, refuses bad arguments, and its reports say what was found."""

import json
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.corpus import nets
from benchmarks.corpus.nets import images, settle, vectors
from bnlab import diagnose, inference
from bnlab.diagnosis import CHECKS, FAMILIES, FindingsError, Report
from bnlab.diagnosis._state import borrowed


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# ---- nothing changes ----


class Greedy(nets.ConvNet):
    """A model that changes all it can reach."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.log, self.last = [], None
        self.steps = 0

    def train(self, mode=True):
        self.log.append(mode)
        self.conv2.weight.requires_grad_(mode)
        return super().train(mode)

    def forward(self, x):
        self.seen += 1
        self.steps += 1
        self.last = x
        self.log.append("forward")
        x.mul_(1.0)
        with torch.no_grad():
            self.head.bias += 1
        torch.set_grad_enabled(torch.is_grad_enabled())
        np.random.rand()  # noqa: NPY002
        random.random()
        return super().forward(x + 0 * torch.randn_like(x))


def state(model):
    """Everything that could change, as bits and identities."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {
        "tensors": {n: (id(t), t.data_ptr(), t._version, t.detach().cpu().numpy().tobytes()) for n, t in tensors},
        "grads": {
            n: None if p.grad is None else (id(p.grad), p.grad.numpy().tobytes()) for n, p in model.named_parameters()
        },
        "needs": {n: p.requires_grad for n, p in model.named_parameters()},
        "modes": {n: m.training for n, m in model.named_modules()},
        "hooks": {n: (len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()},
        "attributes": {n: {k: repr(v) for k, v in vars(m).items() if k[0] != "_"} for n, m in model.named_modules()},
        "rng": (torch.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())),  # noqa: NPY002
        "grad mode": torch.is_grad_enabled(),
    }  # fmt: skip


def with_gradients(model, batches):
    model.train()
    model(batches[0][0].clone()).square().sum().backward()
    model.eval()
    return model


@pytest.mark.parametrize("grad", [True, False])
def test_the_model_is_the_same_afterwards_bit_for_bit(grad):
    batches = images(3)
    model = with_gradients(Greedy(), batches)
    model.norm2.train()
    model.conv1.register_forward_hook(lambda *_: None)
    before, given = state(model), [x.clone() for x, _ in batches]
    with torch.set_grad_enabled(grad):
        wanted = before | {"grad mode": grad}
        diagnose(model, batches)
        assert state(model) == wanted
        diagnose(model)
        assert state(model) == wanted
    assert all(torch.equal(a, x) for a, (x, _) in zip(given, batches, strict=True))


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_the_same_holds_after_an_exception_in_the_model(at):
    calls = []

    def call(model, batch):
        calls.append(0)
        if len(calls) > at:
            raise KeyError("broken")
        return model(batch[0])

    batches = images(3)
    model = with_gradients(Greedy(), batches)
    before = state(model)
    with pytest.raises(KeyError, match="broken"):
        diagnose(model, batches, call=call)
    assert state(model) == before


def test_a_loader_that_raises_leaves_no_trace():
    def loader():
        yield from images(2)
        raise OSError("disk gone")

    model = nets.ConvNet()
    before = state(model)
    with pytest.raises(OSError, match="disk gone"):
        diagnose(model, loader())
    assert state(model) == before


def test_a_shuffling_loader_leaves_the_random_numbers_alone():
    x, y = images(1, 64)[0]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 16, shuffle=True)
    model = nets.ConvNet()
    before = torch.get_rng_state()
    diagnose(model, loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_random_batches_are_not_drawn_alike():
    seen = []

    def loader():
        for _ in range(4):
            seen.append(torch.randn(16, 12))
            yield seen[-1]

    diagnose(nets.Mlp(), loader())
    assert not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_lazy_layers_stay_lazy():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU())
    report = diagnose(model, images(3))
    assert isinstance(model[1], nn.LazyBatchNorm2d)
    assert type(model[0].weight) is nn.UninitializedParameter
    assert "untrained-statistics" in report.ids
    assert "lazy" in str(diagnose(model))
    assert model(images(1)[0][0]).shape[1] == 4


def test_hooks_on_parameters_do_not_fire():
    model, fired = nets.Mlp(), []
    for p in model.parameters():
        p.register_hook(lambda g: fired.append(g))
        p.register_post_accumulate_grad_hook(lambda p: fired.append(p))
    diagnose(model, vectors(3))
    assert not fired


def test_a_borrowed_recurrent_net_uses_its_copies():
    model = nets.Recurrent()
    weight = model.lstm.weight_ih_l0
    with borrowed(model):
        with torch.no_grad():
            model.lstm.weight_ih_l0.zero_()
        assert (model.lstm._flat_weights[0] == 0).all()
    assert model.lstm.weight_ih_l0 is weight is model.lstm._flat_weights[0]
    assert weight.any()


# ---- what may be passed ----


def test_each_loader_is_read_once():
    reads = []

    class Once:
        def __iter__(self):
            reads.append(0)
            return iter(vectors(3))

    diagnose(nets.Mlp(), Once(), other_batches=Once())
    assert len(reads) == 2


@pytest.mark.parametrize(
    "batches",
    [
        lambda: [x for x, _ in vectors(4)],
        lambda: [list(b) for b in vectors(4)],
        lambda: iter(vectors(4)),
        lambda: (b for b in vectors(4)),
        lambda: tuple(vectors(4)),
    ],
)
def test_batches_in_every_form_give_one_report(batches):
    model = nets.Mlp(norm=lambda c: nn.BatchNorm1d(c, momentum=0.9))
    plain, other = diagnose(model, vectors(4)), diagnose(model, batches())
    assert plain.findings
    assert other.to_json() == plain.to_json()


def test_dicts_are_arguments_and_a_call_may_do_anything():
    model = settle(nets.TwoInputs(), vectors(20, seed=1), run=lambda m, b: m(b[0], b[0]))
    dicts = [{"a": x, "b": x} for x, _ in vectors(5)]
    assert diagnose(model, dicts).looked_at["batches"] == 5
    report = diagnose(model, vectors(5), call=lambda m, b: m(b[0], b=b[0]).sum())
    assert report.looked_at["batches"] == 5
    assert report.ok


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([1],), TypeError, "model is a list; expected a torch.nn.Module"),
        ((nets.Mlp(), torch.ones(3, 12)), TypeError, r"batches is a Tensor.*\[x\]"),
        ((nets.Mlp(), 3), TypeError, "batches is a int"),
        ((nets.Mlp(), []), ValueError, "batches holds no batch"),
        ((nets.Mlp(), {"a": 1}), TypeError, "batches is a dict"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        diagnose(*arguments)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"select": "stale-statistic"}, ValueError, "Did you mean 'stale-statistics'"),
        ({"ignore": ["modes"]}, ValueError, "Did you mean 'mode'"),
        ({"select": [3]}, TypeError, "select holds 3"),
        ({"optimizer": 3}, TypeError, "optimizer is a int"),
        ({"other_batches": vectors(2)}, ValueError, "other_batches is given and batches is not"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        diagnose(nets.Mlp(), **options)


def test_select_and_ignore_take_ids_and_families():
    model = nets.Mlp(norm=lambda c: nn.BatchNorm1d(c, momentum=0.9), bias=True).eval()
    everything = diagnose(model, vectors(4)).ids
    assert {"reversed-momentum", "untrained-statistics", "redundant-bias"} <= everything
    assert diagnose(model, vectors(4), select="structure").ids == {"redundant-bias"}
    assert "reversed-momentum" not in diagnose(model, vectors(4), ignore=["reversed-momentum"]).ids
    assert not diagnose(model, vectors(4), ignore=FAMILIES).ids


def test_a_statement_about_nothing_costs_nothing():
    def never(model, batch):
        raise AssertionError("it was run")

    diagnose(nets.Mlp(), vectors(2), call=never, select="optimizer")


# ---- models that are not as one expects ----


def test_a_compiled_model_is_looked_into():
    model = torch.compile(settle(nets.ConvNet(), images(10)), backend="eager")
    model.norm2.running_mean += 1
    report = diagnose(model, images(4, seed=2))
    assert [f.layer for f in report.findings if f.id == "stale-statistics"] == ["_orig_mod.norm2"]


def test_a_compiled_part_is_looked_into_after_it_has_run():
    body = settle(nets.ConvNet(), images(10))
    model = nn.Sequential(torch.compile(body, backend="eager"), nn.Linear(nets.CLASSES, 2)).eval()
    model(images(1)[0][0])
    body.norm1.running_var *= 9
    assert "stale-statistics" in diagnose(model, images(4, seed=2)).ids


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_of_a_scripted_model_is_said_what_cannot_be_seen():
    model = settle(nets.ConvNet(), images(10))
    model.norm1.running_mean[0] = torch.nan
    scripted = torch.jit.script(model)
    before = {n: b.clone() for n, b in scripted.named_buffers()}
    report = diagnose(scripted, images(3))
    assert "nonfinite-statistics" in report.ids
    assert "TorchScript" in str(report)
    assert "unused-layer" not in report.ids
    for n, b in scripted.named_buffers():
        assert torch.equal(b.nan_to_num(), before[n].nan_to_num())
    assert not scripted.training


def test_an_exported_graph_is_said_to_hide_its_layers():
    x = images(1)[0][0]
    graph = torch.export.export(nets.ConvNet().eval(), (x,)).module()
    report = diagnose(graph, [x])
    assert "2 layers are calls of a graph" in str(report)
    assert not report.ids
    graph.norm1.running_var[0] = -1
    assert diagnose(graph).ids == {"negative-variance"}


def test_a_model_without_batch_norm_says_so():
    report = diagnose(nets.Mlp(norm=nn.LayerNorm), vectors(2))
    assert report.ok
    assert "no batch norm layer" in str(report)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype(dtype):
    batches = [(x.to(dtype), y) for x, y in vectors(20)]
    model = settle(nets.Mlp().to(dtype), batches)
    assert diagnose(model, batches[:5]).ok
    model[1].running_mean += 2
    assert "stale-statistics" in diagnose(model, batches[:5]).ids


def test_a_large_mean_costs_no_digits():
    batches = [(x + 30_000, y) for x, y in images(20)]
    model = settle(nn.Sequential(nn.BatchNorm2d(3), nn.Flatten()), batches)
    assert diagnose(model, batches[:5]).ok


def test_an_empty_batch_is_passed_over():
    model = settle(nets.Mlp(), vectors(20))
    empty = (torch.zeros(0, 12), torch.zeros(0))
    assert diagnose(model, [*vectors(4, seed=1), empty]).ok


def test_what_is_broken_upstream_is_not_held_against_the_layers_behind():
    model = settle(nets.ResNet(), images(20))
    model.stem[1].running_var *= 100
    report = diagnose(model, images(6, seed=2))
    assert [f.layer for f in report.findings if f.id == "stale-statistics"] == ["stem.1"]


def test_a_second_broken_layer_is_found_behind_the_first():
    model = settle(nets.ResNet(), images(20))
    model.stem[1].running_var *= 100
    model.blocks[1].bn2.running_mean += 2 * model.blocks[1].bn2.running_var.sqrt()
    report = diagnose(model, images(6, seed=2))
    assert [f.layer for f in report.findings if f.id == "stale-statistics"] == [
        "stem.1",
        "blocks.1.bn2",
    ]


def test_one_value_per_channel_only_in_the_last_batch_is_an_error():
    model = settle(nets.Mlp(), vectors(20)).train()
    report = diagnose(model, [*vectors(4, 32), *vectors(1, 1)])
    assert {f.severity for f in report.findings if f.id == "few-values"} == {"error"}
    assert diagnose(model.eval(), [*vectors(4, 32), *vectors(1, 1)]).ok


# ---- reports ----


@pytest.fixture
def broken():
    model = settle(nets.ConvNet(bias=True), images(20))
    model.norm1.running_mean[3] = torch.nan
    model.norm2.momentum = 0.99
    return model


def test_the_text_says_what_was_found_and_what_was_looked_at(broken):
    report = diagnose(broken, images(3))
    text = str(report)
    assert text.startswith(
        "ConvNet: 1 error, 1 warning, 2 infos. The model has 2 batch norm layers (2 BatchNorm2d)"
    )
    assert "error norm1: NaN or Inf values: 1 in running_mean. [nonfinite-statistics]" in text
    assert "Fix:" in text
    healthy = diagnose(settle(nets.ConvNet(), images(20)))
    assert str(healthy) == (
        "ConvNet: nothing found. The model has 2 batch norm layers (2 BatchNorm2d). Looked for 26 of 26 faults "
        "without batches: static checks only."
    )


def test_json_is_plain_and_sorted_by_severity(broken):
    found = json.loads(diagnose(broken, images(3)).to_json())
    assert [one["severity"] for one in found["findings"]] == ["error", "warning", "info", "info"]
    assert found["ok"] is False
    assert set(found["findings"][0]) == {
        "id",
        "severity",
        "layer",
        "message",
        "evidence",
        "cause",
        "fix",
        "chapter",
    }


def test_sarif_has_a_rule_for_each_id_and_a_place_for_each_result(broken, monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[1])
    log = json.loads(diagnose(broken, images(3)).to_sarif())
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(CHECKS)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        (place,) = result["locations"]
        assert place["physicalLocation"]["artifactLocation"]["uri"] == "benchmarks/corpus/nets.py"
        assert place["physicalLocation"]["region"]["startLine"] > 1
    assert run["results"][0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] == "norm1"


def test_a_notebook_gets_a_table_with_small_plots():
    model = settle(nets.ConvNet(), images(20))
    model.norm1.running_mean += 2
    shown = diagnose(model, images(4, seed=1))._repr_html_()
    assert shown.count("<svg") == 2
    assert shown.count("<circle") == 12 + 4
    assert "aria-label" in shown
    assert "<script" not in shown


def test_names_are_escaped_in_html():
    model = nn.Sequential()
    model.add_module("<b>", nn.BatchNorm1d(3, momentum=0.9))
    assert "<code><b>" not in diagnose(model)._repr_html_()


def test_raise_for(broken):
    report = diagnose(broken, images(3))
    with pytest.raises(FindingsError, match=r"(?s)1 error\..*norm1"):
        report.raise_for("error")
    diagnose(settle(nets.ConvNet(), images(20))).raise_for("info")
    with pytest.raises(ValueError, match="Did you mean 'error'"):
        report.raise_for("eror")
    assert isinstance(report, Report)


def test_findings_come_in_order_of_execution():
    model = nets.ResNet(norm=lambda c: nn.BatchNorm2d(c, momentum=0.9))
    order = [f.layer for f in diagnose(model, images(2)).findings if f.id == "reversed-momentum"]
    assert order[:3] == ["stem.1", "blocks.0.bn1", "blocks.0.bn2"]


# ---- fixes ----


def test_recalibration_is_applied_to_the_model():
    model = settle(nets.ConvNet(), images(20))
    model.norm1.running_mean += 2
    batches = images(8, seed=1)
    (finding,) = (f for f in diagnose(model, batches).findings if f.id == "stale-statistics")
    finding.apply()
    assert diagnose(model, batches).ok
    assert diagnose(model, iter(batches)).ok
    model.norm1.running_mean += 2
    assert all(f.apply is None for f in diagnose(model, iter(batches)).findings)


@pytest.mark.parametrize(
    ("id", "spoil"),
    [
        ("frozen-wakes", lambda m: m.train().norm1.eval()),
        ("moving-frozen", lambda m: m.norm1.requires_grad_(False)),
        ("train-mode-in-evaluation", lambda m: m.norm1.train()),
        ("reversed-momentum", lambda m: setattr(m.norm1, "momentum", 0.9)),
    ],
)
def test_a_fix_removes_its_finding(id, spoil):
    model = settle(nets.ConvNet(), images(20))
    spoil(model)
    (finding,) = (f for f in diagnose(model).findings if f.id == id)
    assert finding.layer == "norm1"
    finding.apply()
    assert id not in diagnose(model).ids
    if id == "reversed-momentum":
        assert model.norm1.momentum == pytest.approx(0.1)


def test_layers_frozen_by_bnlab_are_asleep():
    model = settle(nets.ConvNet(), images(20)).requires_grad_(False)
    inference.freeze(model)
    head = nn.Linear(nets.CLASSES, 2)
    assert not diagnose(nn.Sequential(model, head).train(), images(4)).ids


# ---- cost ----


def test_the_model_is_run_at_most_twice_on_each_batch():
    rows = []

    def call(model, batch):
        rows.append(len(batch[0]))
        return model(batch[0])

    for n in (1, 2, 4, 12, 30):
        rows.clear()
        diagnose(settle(nets.ConvNet(), images(4)), images(n, 32), call=call)
        assert (
            sum(rows) <= 2 * 32 * n + 12
        )  # the step, and two looks between layers, on four examples


def test_import_bnlab_loads_no_torch_for_it():
    code = "import sys, bnlab; assert 'diagnose' in bnlab.__all__; print('torch' in sys.modules); bnlab.diagnose"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_time_is_within_reach_of_two_passes():
    """Not the figure of the book, which is measured with care: only that no layer is read many times."""
    model = settle(nets.ResNet(16), images(2, 32, 24))
    batches = images(12, 64, 24)

    def plain():
        with torch.no_grad():
            for x, _ in batches:
                model(x)

    def seconds(run):
        start = time.process_time()
        run()
        return time.process_time() - start

    plain()
    ratio = min(seconds(lambda: diagnose(model, batches)) / seconds(plain) for _ in range(2))
    assert ratio < 3.5


def test_warnings_of_the_model_are_kept_away():
    class Warns(nets.ConvNet):
        def forward(self, x):
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            return super().forward(x)

    diagnose(Warns(), images(2))


def test_a_layer_that_synchronizes_is_known_by_its_kind():
    import bnlab

    for kind in (nn.SyncBatchNorm, bnlab.nn.SyncBatchNorm, nn.BatchNorm1d):
        model = nn.DataParallel(settle(nets.Mlp(norm=kind), vectors(20, 16)).train())
        plain = kind is nn.BatchNorm1d
        assert ("unsynchronized" in diagnose(model, vectors(4, 16)).ids) is plain


def test_what_ignores_a_stretch_but_not_a_shift_is_no_norm():
    class Sign(nn.Module):  # with a straight-through gradient
        def forward(self, x):
            return x + (torch.sign(x) - x).detach()

    parts = nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16), Sign(), nn.Linear(16, 4)
    assert diagnose(settle(nn.Sequential(*parts), vectors(20)), vectors(4, seed=1)).ok


def test_it_works_inside_inference_mode():
    model = settle(nets.ConvNet(), images(20))
    with torch.inference_mode():
        report = diagnose(model, images(4, seed=1))
    assert report.ok
    assert not report.notes


def test_each_batch_in_evaluation_mode_meets_the_statistics_of_the_owner():
    model, seen = settle(nets.ConvNet(), images(20)), []
    owned = model.norm1.running_mean.clone()

    def call(model, batch):
        if not model.norm1.training:
            seen.append(model.norm1.running_mean.clone())
        return model(batch[0])

    diagnose(model, images(6, seed=1), call=call)
    assert len(seen) == 6
    assert all(torch.equal(mean, owned) for mean in seen)


def test_a_loader_that_switches_gradients_off_does_not_leave_them_off():
    def loader():
        torch.set_grad_enabled(False)
        yield from images(2)

    diagnose(nets.ConvNet(), loader())
    assert torch.is_grad_enabled()


# ---- models of other people ------------------------------------------------------------------------


class Branch(nn.Module):
    """A branch of small weight and no batch norm, beside an output that is cut out of the graph."""

    def __init__(self):
        super().__init__()
        self.stem, self.branch = nn.Linear(8, 16), nn.Linear(16, 16)
        self.weight = nn.Parameter(torch.full((16,), 1e-4))
        self.head, self.side = nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x):
        h = self.stem(x)
        h = h + self.weight * self.branch(torch.tanh(h))
        return self.head(h), self.side(h.detach())


class Clips(nn.Module):
    """Frames of a clip are rows of one normalization."""

    def __init__(self):
        super().__init__()
        self.bn, self.out = nn.BatchNorm1d(8, momentum=None), nn.Linear(8, 2)

    def forward(self, x):
        b, t, _ = x.shape
        return self.out(self.bn(x.flatten(0, 1)).view(b, t, -1).mean(1))


class Around(nn.Module):
    """The output of the first convolution goes into a normalization, and around it."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.mix, self.out = nn.Conv2d(8, 8, 1), nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.mix(torch.relu(self.norm(x)))
        return self.out(torch.tanh(x).mean((2, 3)))


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.lazy = nn.LazyBatchNorm1d()

    def forward(self, x):
        return self.main(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_branch_of_small_weight_is_no_detached_norm(dtype):
    torch.manual_seed(0)
    report = diagnose(Branch().to(dtype), [torch.randn(32, 8, dtype=dtype)])
    assert "detached-statistics" not in report.ids


def test_frames_of_random_clips_are_no_ordered_batches():
    torch.manual_seed(0)
    model = Clips()
    clips = [torch.randn(8, 1, 8) + 0.3 * torch.randn(8, 30, 8) for _ in range(500)]
    for clip in clips[:400]:
        model(clip)
    model.bn.momentum = 0.1
    assert diagnose(model.eval(), clips[400:420]).ok
    assert diagnose(model, clips[420:422], other_batches=clips[422:424]).ok


def test_a_bias_that_also_goes_around_the_norm_is_not_redundant():
    torch.manual_seed(0)
    model, x = Around(), [torch.randn(16, 3, 8, 8) for _ in range(3)]
    for batch in x * 30:
        model(batch)
    assert "redundant-bias" not in diagnose(model, x).ids


def test_an_unused_lazy_layer_is_one_that_no_pass_reaches():
    assert "unused-layer" in diagnose(Unused(), [torch.randn(32, 4)]).ids


def test_a_sparse_tensor_in_the_batch_is_left_whole():
    model = nn.Sequential(nn.Linear(64, 8, bias=False), nn.BatchNorm1d(8))
    diagnose(model, [(torch.randn(64, 64), torch.eye(64).to_sparse())])


def test_a_model_made_in_inference_mode_can_be_judged():
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        model(torch.randn(32, 4))
    assert "nonfinite-statistics" not in diagnose(model.eval()).ids
