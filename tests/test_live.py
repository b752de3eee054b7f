"""The live figures' arithmetic, run in Chromium, against bnlab and NumPy."""

import functools
import itertools
import json
import math
import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import WebDriverWait

import bnlab
from bnlab import graph, inference, scaling, whitening
from bnlab.chapters.covariate_shift import cup_game, signal_depth
from bnlab.chapters.feature_scaling import experiments as feature_scaling
from bnlab.chapters.figure_one import measures as figure_one_measures
from bnlab.chapters.gradient_flow.results import equilibrium_norm4
from bnlab.chapters.inference_statistics import sampling
from bnlab.chapters.making_it_fast import experiments as making_it_fast
from bnlab.chapters.making_it_fast.results import floor_bytes
from bnlab.chapters.naive_failure import naive
from bnlab.experiments import load
from bnlab.stats import steps_to, t_interval
from tools import write_live_data

BOOK = Path(__file__).resolve().parents[1] / "book"
LIVE = BOOK / "assets" / "live"
FIGURES = sorted(path.stem for path in LIVE.glob("*.js") if path.stem != "core")
DATA = sorted(f"data/{path.stem}" for path in LIVE.glob("data/*.js"))


@pytest.fixture(scope="module")
def browser(browser):
    browser.get("about:blank")
    for script in ("vendor/d3.min", "vendor/plot.min", "core", *DATA, *FIGURES):
        browser.execute_script((LIVE / f"{script}.js").read_text(encoding="utf-8"))
    return browser


@pytest.fixture
def js(browser):
    """Evaluate an expression in which `a` is the list of arguments and `math` is BNLive.math."""

    def evaluate(expression, *arguments):
        script = f"const a = [...arguments], math = BNLive.math; return {expression};"
        return browser.execute_script(script, *arguments)

    return evaluate


@pytest.fixture
def compute(js):
    """Call a figure's compute; controls that are not named keep their first values."""
    return lambda name, **params: js("BNLive.figures[a[0]].compute(a[1])", name, params)


# ---- shared arithmetic -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample():
    return np.random.default_rng(0).normal(3.0, 2.0, size=41)


def test_moments_are_numpys(js, sample):
    x = sample.tolist()
    got = js("[math.sum(a[0]), math.mean(a[0]), math.variance(a[0]), math.std(a[0])]", x)
    np.testing.assert_allclose(got, [sample.sum(), sample.mean(), sample.var(), sample.std()])
    assert js("math.dot(a[0], a[0])", x) == pytest.approx(sample @ sample)


@pytest.mark.parametrize("q", [0, 0.15, 0.5, 0.85, 1])
def test_quantile_is_numpys(js, sample, q):
    assert js("math.quantile(a[0], a[1])", sample.tolist(), q) == pytest.approx(
        np.quantile(sample, q)
    )


def test_histogram_is_numpys(js, sample):
    bins = js("math.histogram(a[0], -2, 8, 20)", sample.tolist())
    counts, edges = np.histogram(sample, bins=20, range=(-2, 8))
    assert [b["count"] for b in bins] == counts.tolist()
    np.testing.assert_allclose([b["x0"] for b in bins], edges[:-1], atol=1e-12)


def test_linspace_and_sigmoid_are_numpys(js):
    grid = np.linspace(-3, 5, 9)
    np.testing.assert_allclose(js("math.linspace(-3, 5, 9)"), grid)
    np.testing.assert_allclose(
        js("math.linspace(-3, 5, 9).map(math.sigmoid)"), 1 / (1 + np.exp(-grid))
    )


@pytest.mark.parametrize(("gamma", "beta", "eps"), [(1.0, 0.0, 1e-5), (-2.5, 4.0, 0.5)])
def test_batch_norm_and_its_gradients_are_the_packages(js, sample, gamma, beta, eps):
    dy = np.random.default_rng(1).normal(size=sample.size)
    y, cache = bnlab.batch_norm_forward(
        sample[:, None], np.array([gamma]), np.array([beta]), eps=eps
    )
    dx, dgamma, dbeta = bnlab.batch_norm_backward(dy[:, None], cache)
    got = js(
        "(f => ({...f, ...math.batchNormBackward(a[1], f)}))(math.batchNorm(a[0], ...a[2]))",
        sample.tolist(),
        dy.tolist(),
        [gamma, beta, eps],
    )
    expected = {"mean": cache.mu_B[0], "variance": cache.var_B[0], "xHat": cache.x_hat[:, 0]}
    expected |= {"y": y[:, 0], "dx": dx[:, 0], "dgamma": dgamma[0], "dbeta": dbeta[0]}
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


def mulberry32(seed):
    """The generator, written a second time."""
    mask = 0xFFFFFFFF
    while True:
        seed = (seed + 0x6D2B79F5) & mask
        t = ((seed ^ (seed >> 15)) * (seed | 1)) & mask
        t ^= (t + ((t ^ (t >> 7)) * (t | 61) & mask)) & mask
        yield ((t ^ (t >> 14)) & mask) / 2**32


def test_random_numbers_are_the_same_on_every_machine(js):
    uniform = list(itertools.islice(mulberry32(7), 6))
    got = js("(r => Array.from({length: 6}, r.uniform))(math.random(7))")
    assert got == uniform
    assert len(set(got)) == 6
    radius = math.sqrt(-2 * math.log(1 - uniform[0]))
    normal = radius * math.cos(2 * math.pi * uniform[1])
    assert js("math.random(7).normal()") == pytest.approx(normal, rel=1e-12)


def test_random_normals_are_standard(js):
    z = np.array(js("math.random(1).normals(4000)"))
    assert abs(z.mean()) < 4 / math.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / z.size)


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(1.25, 1, "1.3"), (-2, 2, "\u22122.00"), (-0.001, 2, "0.00")]
)
def test_format(js, value, digits, text):
    assert js("BNLive.format(a[0], a[1])", value, digits) == text


# ---- every figure ----------------------------------------------------------------------------------


def test_registered_figures_are_the_files(js):
    assert sorted(js("Object.keys(BNLive.figures)")) == FIGURES


def test_every_figure_stands_on_a_page():
    pages = [p for p in BOOK.iterdir() if p.suffix in (".md", ".ipynb")]
    text = "".join(p.read_text(encoding="utf-8") for p in pages)
    shown = set(re.findall(r'<bn-live figure=\\?"([\w-]+)\\?"', text))
    assert shown == set(FIGURES)


def test_every_figure_is_compared_with_the_package():
    tested = set(re.findall(r'compute\(\s*"([\w-]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert tested == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_compute_is_pure(js, name):
    twice = f"""(() => {{
        const figure = BNLive.figures["{name}"], params = Object.freeze({{...figure.defaults}});
        return [figure.compute(params), figure.compute(params)].map(x => JSON.stringify(x));
    }})()"""
    first, second = js(twice)
    assert first == second


@pytest.mark.parametrize("name", FIGURES)
def test_numbers_stay_finite_and_readable_in_every_corner(js, name):
    """Every combination of the controls' ends: no NaN, no Infinity, no "undefined" in the readout."""
    corners = f"""(() => {{
        const figure = BNLive.figures["{name}"];
        const ends = figure.controls.map(c => c.options
            ? c.options.map(o => typeof o === "object" ? o.value : o)
            : typeof c.value === "boolean" ? [true, false] : [c.min, c.max]);
        const all = ends.reduce((rows, values) => rows.flatMap(r => values.map(v => [...r, v])), [[]]);
        const wrong = [];
        for (const row of all) {{
            const params = Object.fromEntries(figure.controls.map((c, i) => [c.id, row[i]]));
            const data = figure.compute(params);
            const bad = [];
            JSON.stringify(data, (k, v) => {{
                if (typeof v === "number" && !Number.isFinite(v)) bad.push(k);
                return v;
            }});
            const text = [].concat(figure.readout(data, params)).join(" ");
            if (bad.length || /NaN|Infinity|undefined|object/.test(text)) wrong.push([params, bad, text]);
        }}
        return wrong;
    }})()"""
    assert js(corners) == []


def test_controls_are_few_and_start_inside_their_range(js):
    for name in FIGURES:
        controls = js("BNLive.figures[a[0]].controls", name)
        assert 1 <= len(controls) <= 5, name
        for control in controls:
            assert control["label"], (name, control)
            if "min" in control:
                assert control["min"] <= control["value"] <= control["max"], (name, control)
                steps = (control["value"] - control["min"]) / control["step"]
                assert steps == pytest.approx(round(steps), abs=1e-6), (name, control)


def test_a_figure_without_its_script_says_so(browser):
    browser.execute_script("document.body.innerHTML = '<bn-live figure=\"absent\"></bn-live>'")
    browser.execute_script("document.dispatchEvent(new Event('DOMContentLoaded'))")
    text = browser.execute_script("return document.querySelector('bn-live').textContent")
    assert text == 'The live figure "absent" could not be loaded.'


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ['html, html[data-theme="light"] {', 'html[data-theme="dark"] {'])
def test_every_colour_can_be_read_as_text(theme):
    """WCAG AA: a contrast of 4.5 with the card that figures stand on."""
    css = (BOOK / "assets" / "bnlab.css").read_text(encoding="utf-8")
    rule = css.split("\n" + theme, 1)[1].split("}", 1)[0]
    colors = dict(re.findall(r"--bn-(\w+): (#[0-9a-f]{6});", rule))
    card = luminance(colors.pop("card"))
    del colors["line"]
    assert len(colors) == 6
    for name, color in colors.items():
        dark, light = sorted((card, luminance(color)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (theme, name)


# ---- each figure against the package -----------------------------------------------------------------


@pytest.mark.parametrize("shape", ["bell", "skewed", "two groups"])
@pytest.mark.parametrize(("gamma", "beta"), [(1.0, 0.0), (2.5, -3.0)])
def test_normalize(compute, shape, gamma, beta):
    data = compute("normalize", shift=2.0, scale=0.3, shape=shape, gamma=gamma, beta=beta)
    x = np.array(data["x"])
    y, _ = bnlab.batch_norm_forward(x[:, None], np.array([gamma]), np.array([beta]))
    np.testing.assert_allclose(data["y"], y[:, 0], rtol=1e-9)
    got = [data["meanX"], data["stdX"], data["meanY"], data["stdY"]]
    np.testing.assert_allclose(got[:2], [2.0, 0.3], rtol=1e-9)
    np.testing.assert_allclose(got, [x.mean(), x.std(), y.mean(), y.std()], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("standard", ["nobody", "listener", "everyone"])
@pytest.mark.parametrize("params", [{}, {"noise": 0.4, "gain": 0.7, "spread": 0.6, "change": 0.3}])
def test_cup_game(compute, standard, params):
    data = compute("cup-game", **params)
    names = ("gains", "offsets", "gainsLater", "offsetsLater")
    players = [[np.array(chain[k]) for k in names] for chain in data["players"]]
    noise = params.get("noise", 0.1)
    found = [cup_game.theory(*chain, noise=noise, standard=standard) for chain in players]
    correlation = np.mean([r2 for r2, _ in found], axis=0)
    stale = np.exp(np.mean([np.log(error) for _, error in found], axis=0))
    line = [point for point in data["lines"] if point["standard"] == standard]
    np.testing.assert_allclose([p["correlation"] for p in line], correlation, rtol=1e-9)
    np.testing.assert_allclose([p["stale"] for p in line], stale, rtol=1e-9)
    assert len(line) == 30
    assert len(players) == 50
    shown = compute("cup-game", standard=standard, **params)["shown"]
    r2, error = found[data["typical"]]
    if not params:
        assert error[19] == pytest.approx(stale[19], rel=0.4)  # so it may be called typical
    np.testing.assert_allclose([p["correlation"] for p in shown], r2, rtol=1e-9)
    np.testing.assert_allclose([p["stale"] for p in shown], error, rtol=1e-9)
    # a decoded message is gain * message + offset, give or take noise
    heard = [p["heard"] for p in shown]
    wrong = [(h["gain"] - 1) ** 2 + h["offset"] ** 2 + h["noise"] ** 2 for h in heard]
    np.testing.assert_allclose(wrong, error, rtol=1e-9)


@pytest.mark.parametrize(("mean", "std"), [(2.0, 3.0), (-6.0, 0.5), (0.0, 8.0)])
def test_saturation(compute, mean, std):
    data = compute("saturation", mean=mean, std=std, layers=3)
    ranks = (np.arange(200_000) + 0.5) / 200_000
    z = mean + std * np.array([NormalDist().inv_cdf(r) for r in ranks])
    s = 1 / (1 + np.exp(-z))
    assert data["saturated"] == pytest.approx(signal_depth.saturated_share(z), abs=2e-5)
    assert data["meanSlope"] == pytest.approx(np.mean(s * (1 - s)), rel=1e-4)
    assert data["through"] == pytest.approx(data["meanSlope"] ** 3)
    assert data["bound"] == 0.25**3
    share = np.histogram(s, bins=20, range=(0, 1))[0] / s.size
    np.testing.assert_allclose([b["share"] for b in data["bins"]], share, atol=2e-5)
    assert compute("saturation", mean=5.0, normalize=True) == compute(
        "saturation", mean=0.0, std=1.0
    )


@pytest.mark.parametrize(
    "variant",
    ["center", "center_beta", "scale", "scale_flat", "center_scale", "center_scale_affine"],
)
@pytest.mark.parametrize("way", ["naive", "right"])
def test_naive_run(compute, variant, way):
    data = compute("naive-run", variant=variant, lr=0.07, target=-1.2, step=30)
    u, t = np.array(data["u"]), np.array(data["t"])
    assert t.mean() == pytest.approx(-1.2)
    assert (u * t).mean() == pytest.approx(0.5 if variant == "scale_flat" else 1.5)
    run = naive.train(
        u,
        t,
        variant=variant.removesuffix("_flat"),
        lr=0.07,
        steps=30,
        through_statistics=way == "right",
    )
    for name in ("a", "b", "gamma", "beta", "loss"):
        got = [state[name] for state in data[way]["path"][:31]]
        np.testing.assert_allclose(got, getattr(run, name), rtol=1e-6, atol=1e-9, err_msg=name)
    x_hat = (u - u.mean()) / (u.std() if "scale" in variant else 1)
    for key, at in (("first", 0), ("now", -1)):
        expected = run.gamma[at] * x_hat * np.sign(run.a[at]) + run.beta[at]
        np.testing.assert_allclose(data[way][key], expected, rtol=1e-6, atol=1e-9)
    assert len(data[way]["path"]) == 101


def test_naive_run_is_dragged_through_its_steps(js):
    drag = "BNLive.figures['naive-run'].drag({panel: a[0], x: a[1]}, {}, 'pointermove')"
    assert js(drag, "naive-b", 41.6) == {"step": 42}
    assert js(drag, "right-loss", 250) == {"step": 100}
    assert js(drag, "right-loss", None) is None


@pytest.mark.parametrize("unit", [0, 2.5, 5])
@pytest.mark.parametrize("scaling", ["none", "min-max to [0, 1]", "standardize"])
def test_distance_shares(compute, unit, scaling):
    table = bnlab.data.mixed_scale_table(24, seed=0)
    x = table.x / [1, 10**unit]
    fits = {"min-max to [0, 1]": bnlab.scaling.min_max, "standardize": bnlab.scaling.standardize}
    z = fits[scaling](x).values if scaling in fits else x
    distance = ((z[:, None] - z) ** 2).sum(axis=-1) + np.diag(np.full(24, np.inf))
    for query in (1, 16, 24):
        data = compute("distance-shares", unit=unit, scaling=scaling, query=query)
        np.testing.assert_allclose([data["kids"], data["car"]], z.T, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            data["shares"], bnlab.scaling.distance_shares(x if scaling == "none" else z)
        )
        assert data["nearest"] == distance[query - 1].argmin() + 1


def test_distance_shares_starts_where_scaling_changes_the_nearest(compute):
    raw, scaled = (
        compute("distance-shares", scaling=s)["nearest"] for s in ("none", "standardize")
    )
    kids = bnlab.data.mixed_scale_table(24, seed=0).x[:, 0]
    assert kids[raw - 1] != kids[15]
    assert kids[scaled - 1] == kids[15]


@pytest.mark.parametrize(("condition", "step"), [(0, 1.0), (1.3, 0.5), (2, 1.9), (1, 2.2)])
@pytest.mark.parametrize("given", [None, [-1.2, 0.3]])
def test_gradient_descent(compute, condition, step, given):
    start = np.array(given or [1.0, 1.0])
    more = {"start": given} if given else {}
    data = compute("gradient-descent", condition=condition, step=step, steps=60, **more)
    run = feature_scaling.descend(np.array([10.0**-condition, 1.0]), start, step=step, steps=60)
    np.testing.assert_allclose(data["path"], run.path, rtol=1e-9, atol=1e-300)
    distance = np.linalg.norm(run.path, axis=1)
    np.testing.assert_allclose(data["distance"], distance / distance[0], rtol=1e-9, atol=1e-300)
    kappa = 10.0**condition
    assert data["best"] == pytest.approx(2 / (1 + 1 / kappa))
    assert data["bestRate"] == pytest.approx((kappa - 1) / (kappa + 1))
    assert data["rate"] == pytest.approx(max(abs(1 - step), abs(1 - step / kappa)))
    assert (data["distance"][60] > 1) == (step > 2)


INCOMING = {
    "the first output alone": lambda x_hat: np.array([1.0, 0.0, 0.0]),
    "all outputs equally": np.ones_like,
    "each output by its x̂": np.copy,
}


@pytest.mark.parametrize("start", INCOMING)
@pytest.mark.parametrize(("x1", "gamma", "log_eps"), [(1.0, 1.5, -5.0), (-3.5, -0.5, 1.0)])
def test_gradient_graph(compute, start, x1, gamma, log_eps):
    data = compute("gradient-graph", x1=x1, gamma=gamma, logEps=log_eps, **{"from": start})
    x, eps = np.array([x1, 2.0, 4.0]), 10**log_eps
    dy = INCOMING[start]((x - x.mean()) / np.sqrt(x.var() + eps))
    expected = graph.batch_norm_graph(x, dy, gamma=gamma, beta=0.5, eps=eps)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    assert {n["name"] for n in data["nodes"]} == {n.name for n in expected.nodes}
    for node in data["nodes"]:
        same = expected[node["name"]]
        assert tuple(node["inputs"]) == same.inputs
        close(node["value"], np.atleast_1d(same.value))
        close(node["gradient"], np.atleast_1d(same.gradient))
        assert {p["from"] for p in node["parts"]} == set(same.parts)
        for part in node["parts"]:
            close(part["gradient"], np.atleast_1d(same.parts[part["from"]]))


def test_gradient_graph_steps_forward_and_then_back(compute):
    def states(step):
        return compute("gradient-graph", step=step)["nodes"]

    for step in range(21):
        nodes = states(step)
        assert sum(n["valueShown"] for n in nodes) == min(step, 10)
        assert sum(n["gradientShown"] for n in nodes) == max(step - 10, 0)
        shown = {n["name"]: n for n in nodes}
        for (
            node
        ) in nodes:  # a value needs its inputs; a gradient needs those of all that use the node
            for source in node["inputs"]:
                assert shown[source]["valueShown"] >= node["valueShown"]
                assert shown[source]["gradientShown"] <= node["gradientShown"]


@pytest.mark.parametrize(("angle", "level", "ratio"), [(100, 0.7, 0.0), (275, -0.4, 1.3)])
def test_gradient_projection(compute, angle, level, ratio):
    data = compute(
        "gradient-projection", angle=angle, level=level, ratio=ratio, azimuth=40, elevation=25
    )
    a = np.radians(angle)
    e1, e2 = np.array([1, -1, 0]) / np.sqrt(2), np.array([1, 1, -2]) / np.sqrt(6)
    x = np.sqrt(3) * (np.cos(a) * e1 + np.sin(a) * e2)
    dy = level + 1.5 * e1 - 0.6 * e2
    _, cache = bnlab.batch_norm_forward(x[:, None], np.ones(1), np.zeros(1), eps=ratio)
    parts = graph.decompose(dy, cache.x_hat[:, 0])
    dx = bnlab.batch_norm_backward(dy[:, None], cache)[0][:, 0]
    names = ("dy", "xHat", "alongOnes", "alongXHat", "rest", "dx")
    for name, value in zip(names, (dy, cache.x_hat[:, 0], *parts, dx), strict=True):
        np.testing.assert_allclose(data[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    assert data["sumDx"] == pytest.approx(0, abs=1e-12)
    assert data["dxDotXHat"] == pytest.approx(dx @ cache.x_hat[:, 0], abs=1e-12)
    azimuth, elevation = np.radians([40, 25])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0])
    eye = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    up = np.cross(eye, right)
    for name, value in (("dy", dy), ("xHat", cache.x_hat[:, 0]), ("dx", dx), ("ones", np.ones(3))):
        np.testing.assert_allclose(data["seen"][name], [right @ value, up @ value], atol=1e-12)


@pytest.mark.parametrize("decays", [True, False])
def test_weight_length(compute, decays):
    lr, decay = 10**0.3, 10**-1.5 if decays else 0.0
    data = compute("weight-length", logLr=0.3, logDecay=-1.5, start=2, decays=decays, step=400)
    squared = [4.0]
    for _ in range(1000):
        squared.append((1 - lr * decay) ** 2 * squared[-1] + lr**2 / squared[-1])
    length = np.sqrt(squared)
    np.testing.assert_allclose([p["length"] for p in data["points"]], length, rtol=1e-9)
    np.testing.assert_allclose([p["effective"] for p in data["points"]], lr / length**2, rtol=1e-9)
    assert data["now"] == data["points"][400]
    w = np.array([[p["x"], p["y"]] for p in data["points"]])
    step = w[1:] - (1 - lr * decay) * w[:-1]  # what the gradient did
    np.testing.assert_allclose((step * w[:-1]).sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(step, axis=1), lr / length[:-1], rtol=1e-9)
    if decays:
        settled = equilibrium_norm4(1.0, lr=lr, weight_decay=decay) ** 0.25
        assert data["settled"] == pytest.approx(settled)
        assert length[-1] == pytest.approx(settled, rel=1e-3)
    else:
        assert data["settled"] is None


def test_gradient_projection_turns_with_the_pointer(js):
    """A point that faces the reader moves the way the pointer does, and the view stays in its range."""
    drag = "BNLive.figures['gradient-projection'].drag(a[0], a[1], a[2])"
    view = js("BNLive.figures['gradient-projection'].defaults")
    js(drag, {"pixel": {"x": 10, "y": 10}}, view, "pointerdown")
    turned = js(drag, {"pixel": {"x": 50, "y": 30}}, view, "pointermove")
    assert turned == {"azimuth": view["azimuth"] - 20, "elevation": view["elevation"] + 10}
    far = js(drag, {"pixel": {"x": 10 + 720 + 40, "y": 900}}, view, "pointermove")
    assert far == {"azimuth": turned["azimuth"], "elevation": 90}


@pytest.mark.parametrize("power", [-1, 0.5, 5, 6])
def test_stable_rate_shows_the_stored_sweeps(compute, power):
    shown = {
        "two networks": ("without", "with"),
        "centered inputs too": ("without", "with", "without_centered", "with_centered"),
        "five variants": ("without", "with", "flat", "last_fixed", "outputs_too"),
    }
    for option, names in shown.items():
        data = compute("stable-rate", power=power, arms=option)
        assert [arm["name"] for arm in data["arms"]] == [name.replace("_", " ") for name in names]
        for name, arm in zip(names, data["arms"], strict=True):
            sweep, _ = load(BOOK / "results" / f"gradient_flow_rates_{name}.npz")
            for key, values in (
                ("rate", sweep.lr), ("mean", sweep.mean_accuracy), ("stable", sweep.stable.sum(axis=0)),
                ("low", sweep.accuracy.min(axis=0)), ("high", sweep.accuracy.max(axis=0)),
            ):  # fmt: skip
                np.testing.assert_allclose([p[key] for p in arm["points"]], values, atol=0.00051)
            growth = np.median(sweep.growth, axis=0)
            found = np.array([p["growth"] for p in arm["points"]], dtype=float)
            np.testing.assert_allclose(
                found, np.where(np.isfinite(growth), growth, np.nan), atol=0.0501
            )
            at = np.flatnonzero(np.isclose(sweep.lr, 2.0**power))
            assert arm["now"] == (arm["points"][at[0]] if at.size else None)


@pytest.mark.parametrize(
    ("rival", "arm"),
    [("centred pixels", "plain, centred"), ("frozen statistics", "frozen"), ("running statistics", "running"),
     ("batch statistics, no gradient through them", "detached"),
     ("BN whose rows keep their length", "BN, rows held")],
)  # fmt: skip
def test_rival_rates_shows_the_stored_runs(compute, rival, arm):
    data = compute("rival-rates", power=1, rival=rival)
    assert [curve["name"] for curve in data["curves"]] == ["plain", "BN", arm]
    for curve in data["curves"]:
        slug = curve["name"].replace(",", "").replace(" ", "_")
        runs, _ = load(BOOK / "results" / f"why_{slug}.npz")
        loss = np.minimum(runs.loss[:, 0], 9)
        for key, values in (
            ("rate", runs.lr[0]), ("loss", np.exp(np.log(loss).mean(axis=0))),
            ("low", loss.min(axis=0)), ("high", loss.max(axis=0)),
        ):  # fmt: skip
            np.testing.assert_allclose([p[key] for p in curve["points"]], values, atol=0.00051)
        stable = np.exp(np.log(runs.largest_stable(curve["name"])).mean())
        assert curve["stable"] == pytest.approx(stable, abs=0.00051)
        at = np.flatnonzero(np.isclose(runs.lr[0], 2.0))
        assert curve["now"] == (curve["points"][at[0]] if at.size else None)


@pytest.mark.parametrize(
    ("affine", "gamma", "beta"), [(0, 1.0, 0.0), (1, 2.0, -3.0), (2, None, None)]
)
@pytest.mark.parametrize("params", [{}, {"m": 2, "logSpread": -3, "logEps": -5, "shift": -2}])
def test_algorithm_one(js, compute, affine, gamma, beta, params):
    option = js("BNLive.figures['algorithm-one'].controls[4].options[a[0]]", affine)
    data = compute("algorithm-one", affine=option, **params)
    x = np.array(data["x"])[:, None]
    eps = 10.0 ** params.get("logEps", -5)
    assert x.size == params.get("m", 8)
    if gamma is None:
        gamma, beta = np.sqrt(x.var() + eps), x.mean()
        np.testing.assert_allclose(data["y"], x[:, 0], rtol=1e-9)
    y, cache = bnlab.batch_norm_forward(x, np.array([gamma]), np.array([beta]), eps=eps)
    np.testing.assert_allclose(data["y"], y[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(data["xHat"], cache.x_hat[:, 0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(data["centered"], x[:, 0] - x.mean(), rtol=1e-9, atol=1e-12)
    got = [data[k] for k in ("gamma", "beta", "largest", "kept")]
    kept = x.var() / (x.var() + eps)
    np.testing.assert_allclose(got, [gamma, beta, np.abs(cache.x_hat).max(), kept], rtol=1e-9)


@pytest.mark.parametrize("solve", [True, False])
def test_recover_identity(compute, solve):
    found = [
        compute("recover-identity", gamma=1.5, beta=2.0, m=5, batch=b, solve=solve)
        for b in range(1, 21)
    ]
    first = np.array(found[0]["x"])
    gamma, beta = (np.sqrt(first.var() + 1e-5), first.mean()) if solve else (1.5, 2.0)
    losses = []
    for data in found:
        x = np.array(data["x"])[:, None]
        y, _ = bnlab.batch_norm_forward(x, np.array([gamma]), np.array([beta]))
        np.testing.assert_allclose(data["y"], y[:, 0], rtol=1e-9, atol=1e-12)
        losses.append(((y - x) ** 2).mean())
        assert data["loss"] == pytest.approx(losses[-1], abs=1e-12)
    assert (losses[0] < 1e-20) == solve
    assert found[3]["lossOfAll"] == pytest.approx(np.mean(losses))


def test_recover_identity_brings_the_dragged_dot_to_the_pointer(js, compute):
    """By the smallest change of scale and shift, also where the solution was shown before."""
    before = compute("recover-identity", m=5, solve=True)
    i = int(np.argsort(before["x"])[1])
    place = {"x": before["x"][i] + 0.01, "y": before["y"][i] + 1.5}
    drag = "BNLive.figures['recover-identity'].drag(a[0], a[1], a[2])"
    params = js("BNLive.figures['recover-identity'].defaults") | {"m": 5, "solve": True}
    js(drag, place, params, "pointerdown")
    moved = js(drag, place, params, "pointermove")
    after = compute("recover-identity", m=5, **moved)
    assert after["y"][i] == pytest.approx(place["y"])
    change = np.array([moved["gamma"] - before["gamma"], moved["beta"] - before["beta"]])
    along = np.array([before["xHat"][i], 1.0])
    assert change[0] * along[1] - change[1] * along[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("params", [{}, {"value": -3, "m": 33, "shift": 1.5, "spread": 0.4}])
def test_batch_company(js, compute, params):
    data = compute("batch-company", **params)
    m, shift, spread = params.get("m", 8), params.get("shift", 0), params.get("spread", 1)
    value = params.get("value", 1)
    z = np.array(js("math.random(5).normals(400 * 63)")).reshape(400, 63)[:, : m - 1]
    batches = np.vstack([np.full((1, 400), float(value)), (shift + spread * z).T])
    x_hat = bnlab.batch_norm_forward(batches, np.ones(400), np.zeros(400))[0][0]
    np.testing.assert_allclose(data["xHat"], x_hat, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([data["mean"], data["std"]], [x_hat.mean(), x_hat.std()], rtol=1e-9)
    assert data["theory"] == pytest.approx(math.sqrt((1 + value**2 / 2) / m))
    assert sum(b["count"] for b in data["bins"]) == 400


@pytest.mark.parametrize("source", ["bell", "skewed", "two groups"])
@pytest.mark.parametrize("m", [2, 7])
def test_batch_variance(compute, source, m):
    data = compute("batch-variance", m=m, source=source, divisor="m − 1")
    z = np.array(data["variances"])
    np.testing.assert_allclose(z, np.array(data["biased"]) * m / (m - 1), rtol=1e-12)
    assert data["mean"] == pytest.approx(z.mean())
    assert data["error"] == pytest.approx(z.std() / math.sqrt(z.size))
    assert data["root"] == pytest.approx(np.sqrt(z).mean())
    assert data["expected"] == pytest.approx(1)
    assert abs(z.mean() - 1) < 4 * data["error"]
    theory = sampling.variance_of_variance(m, sampling.KURTOSIS[source])
    assert z.var() == pytest.approx(theory, rel=0.6)
    biased = compute("batch-variance", m=m, source=source)
    assert biased["variances"] == data["biased"]
    assert biased["expected"] == pytest.approx((m - 1) / m)
    counts = np.histogram(z, bins=40, range=(0, 4))[0]
    assert [b["count"] for b in data["bars"]] == counts.tolist()


@pytest.mark.parametrize(
    ("kind", "look", "learned"),
    [("per map", 15, 6), ("per activation", 40, 54), ("per image and map", 81, 6)],
)
def test_shared_mean(compute, kind, look, learned):
    data = compute("shared-mean", batch="3 images, 3 × 3", kind=kind, look=look)
    x = np.array([cell["x"] for cell in data["cells"]]).reshape(3, 3, 3, 3)
    chosen = (look - 1) % x.size
    assert data["chosen"] == chosen
    n, c, h, w = np.unravel_index(chosen, x.shape)
    group = {
        "per map": np.s_[:, c],
        "per activation": np.s_[:, c, h, w],
        "per image and map": np.s_[n, c],
    }[kind]
    shares = np.zeros(x.shape, dtype=bool)
    shares[group] = True
    assert data["shares"] == shares.ravel().tolist()
    values = x[group].reshape(-1, 1)
    x_hat = bnlab.batch_norm_forward(values, np.ones(1), np.zeros(1))[0]
    place = np.flatnonzero(shares).tolist().index(chosen)
    np.testing.assert_allclose(
        [data["mean"], data["variance"], data["normalized"]],
        [values.mean(), values.var(), x_hat[place, 0]],
        rtol=1e-9,
    )
    assert (data["count"], data["means"]) == (values.size, x.size // values.size)
    assert data["learned"] == learned
    if kind == "per map":  # the layer's own result
        y = bnlab.batch_norm_forward(x, np.ones(3), np.zeros(3))[0]
        assert data["normalized"] == pytest.approx(y.ravel()[chosen])


def test_shared_mean_breaks_with_one_value(compute):
    batch = "1 image, 3 × 3"
    assert compute("shared-mean", batch=batch, kind="per activation")["count"] == 1
    assert compute("shared-mean", batch=batch, kind="per map")["count"] == 9
    batch = "3 images, 1 × 1"
    both = [compute("shared-mean", batch=batch, kind=k) for k in ("per map", "per activation")]
    assert both[0] == both[1]


def test_shared_mean_looks_at_the_value_under_the_pointer(js):
    drag = "BNLive.figures['shared-mean'].drag({x: a[0], y: a[1]}, {batch: a[2]})"
    batch = "3 images, 3 × 3"
    step = 3.6  # three squares and a gap
    look = js(drag, 2 * step + 1.5, 1 * step + 2.5, batch)["look"]
    assert look - 1 == np.ravel_multi_index((1, 2, 2, 1), (3, 3, 3, 3))
    assert js(drag, 3.3, 0.5, batch) is None  # between two maps
    assert js(drag, -1, 0.5, batch) is None
    assert js(drag, 1.5, 0.5, "1 image, 1 × 1") is None


NORMS = {  # torch's own, on a tensor of 3 images, 4 maps and 4 positions
    "batch": lambda x: torch.nn.functional.batch_norm(x, None, None, training=True),
    "layer": lambda x: torch.nn.functional.layer_norm(x, x.shape[1:]),
    "instance": torch.nn.functional.instance_norm,
    "group (2 groups)": lambda x: torch.nn.functional.group_norm(x, 2),
    "RMS": lambda x: torch.nn.functional.rms_norm(x, x.shape[1:], eps=1e-5),
}


@pytest.mark.parametrize("look", [1, 22, 48])
@pytest.mark.parametrize("norm", NORMS)
def test_norms_by_axis(compute, norm, look):
    data = compute("norms-by-axis", norm=norm, look=look, by=1.5)
    x = torch.tensor(data["x"], dtype=torch.float64).reshape(3, 4, 4)
    np.testing.assert_allclose(data["y"], NORMS[norm](x).ravel(), rtol=1e-9, atol=1e-12)
    jacobian = torch.func.jacrev(NORMS[norm])(x).reshape(48, 48)
    assert data["moves"] == (jacobian[:, look - 1].abs() > 1e-12).tolist()
    assert data["shares"] == data["moves"]  # who shares a statistic with the value moves with it
    assert data["count"] * data["statistics"] == 48
    still = compute("norms-by-axis", norm=norm, look=look, by=0)
    assert still["y"] == still["before"] == data["before"]


def test_norms_by_axis_of_the_weights(compute):
    """The layer before is a convolution, and its weights are normalized: no activation counts."""
    data = compute("norms-by-axis", norm="weight", look=22, by=0)
    conv = torch.nn.Conv1d(3, 4, 1, bias=False, dtype=torch.float64)
    conv.weight.data = torch.tensor(data["weights"], dtype=torch.float64)[..., None]
    given = torch.tensor(data["given"], dtype=torch.float64).mT
    np.testing.assert_allclose(data["x"], conv(given).detach().ravel(), rtol=1e-9)
    conv = torch.nn.utils.parametrizations.weight_norm(conv)
    conv.parametrizations.weight.original0.data.fill_(1)
    np.testing.assert_allclose(data["y"], conv(given).detach().ravel(), rtol=1e-9)
    moved = compute("norms-by-axis", norm="weight", look=22, by=1.5)
    assert [i for i, moves in enumerate(moved["moves"]) if moves] == [21]
    assert [i for i, shares in enumerate(moved["shares"]) if shares] == [
        i for i in range(48) if i // 4 % 4 == 21 // 4 % 4
    ]


def test_norms_by_axis_takes_up_the_value_under_the_pointer_and_moves_it(js):
    drag = "BNLive.figures['norms-by-axis'].drag(a[0], {norm: 'batch', look: a[1], by: 2}, a[2])"
    step = 2.3  # two squares and a gap
    place = {"panel": "x", "x": 3 * step + 1.5, "y": 2 * step + 0.5, "pixel": {"x": 100, "y": 0}}
    taken = js(drag, place, 1, "pointerdown")
    assert taken == {"look": 1 + np.ravel_multi_index((2, 3, 0, 1), (3, 4, 2, 2)), "by": 0}
    assert js(drag, place | {"pixel": {"x": 150, "y": 0}}, 46, "pointermove") == {"by": 2}
    assert js(drag, place | {"pixel": {"x": -900, "y": 0}}, 46, "pointermove") == {"by": -4}
    assert js(drag, place, 46, "pointerdown") == {"look": 46, "by": 2}  # taken up again
    assert js(drag, place | {"panel": "y"}, 46, "pointerdown") is None
    assert js(drag, place | {"x": 2.1}, 46, "pointerdown") is None  # between two maps


@pytest.mark.parametrize("name", DATA)
def test_stored_numbers_are_those_of_the_results(name):
    figure = name.removeprefix("data/")
    written = write_live_data.target(figure).read_text(encoding="utf-8")
    assert written == write_live_data.script(figure)


def test_figure_one_holds_every_percentile_and_bar():
    stored, _ = load(BOOK / "results" / "figure_one_mnist.npz")
    text = write_live_data.target("figure-one").read_text(encoding="utf-8")
    arms = json.loads(re.search(r"= (\{.*\});", text, flags=re.DOTALL).group(1))["arms"]
    for arm, found in arms.items():
        setting = stored.setting(arm)
        q = stored.percentiles[setting, 0].astype(float)
        np.testing.assert_allclose(np.array(found["percentiles"]) / 100, q, atol=0.0051)
        heights = np.zeros(stored.histogram[setting].shape)
        for at in np.ndindex(heights.shape[:2]):
            first, *bars = found["bars"][at[0]][at[1]]
            heights[at][first : first + len(bars)] = bars
        counts = stored.histogram[setting]
        shares = counts / counts.max(axis=-1, keepdims=True)
        np.testing.assert_allclose(heights / 63, shares, atol=0.5 / 63 + 1e-9)


@pytest.mark.parametrize(("time", "unit"), [(0, 0), (6, 17), (31, 99)])
def test_figure_one_shows_the_stored_run(compute, time, unit):
    stored, _ = load(BOOK / "results" / "figure_one_mnist.npz")
    found = compute("figure-one", time=time, unit=unit)
    wander = figure_one_measures.stability(stored).wander
    assert found["step"] == stored.watched[time]
    assert [look["arm"] for look in found["arms"]] == ["without", "with"]
    for look in found["arms"]:
        setting = stored.setting(look["arm"])
        q = stored.percentiles[setting, 0, :, :, unit].astype(float)
        series = [[point[name] for name in ("low", "middle", "high")] for point in look["series"]]
        np.testing.assert_allclose(series, q, atol=0.0051)
        assert look["now"] == look["series"][time]
        assert look["wander"] == pytest.approx(wander[setting, 0, unit], rel=0.02)
        counts = stored.histogram[setting, time, unit]
        shares = [bar["share"] for bar in look["bars"]]
        np.testing.assert_allclose(shares, counts / counts.sum(), atol=0.01)
        np.testing.assert_allclose([bar["x0"] for bar in look["bars"]], stored.edges[:-1])


@pytest.mark.parametrize(("rate", "time", "sigma"), [(3, 6, 1), (0, 0, 2), (5, 20, 0)])
def test_turn_up_shows_the_stored_runs(compute, rate, time, sigma):
    stored, _ = load(BOOK / "results" / "figure_one_layers.npz")
    found = compute("turn-up", rate=rate, time=time, sigma=sigma, drawn={"3": 0.5, "7": 0.25})
    assert (found["step"], found["rate"]) == (stored.steps[time], stored.rates[rate])
    outside = np.abs((stored.edges[1:] + stored.edges[:-1]) / 2) > 4
    for a, arm in enumerate(found["arms"]):
        assert arm["arm"] == stored.arms[a]
        counts = stored.histogram[a, sigma, rate, time]
        shares = counts / counts.sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(arm["shares"], shares, atol=0.004)
        np.testing.assert_allclose(arm["saturated"], shares[:, outside].sum(axis=-1), atol=0.01)
        accuracy = stored.accuracy[a, sigma, rate]
        np.testing.assert_allclose(arm["accuracy"], accuracy, atol=0.0005)
    missed = np.mean([abs(0.5 - accuracy[3]), abs(0.25 - accuracy[7])])
    assert found["missed"] == pytest.approx(missed, abs=0.001)


def test_turn_up_ends_as_the_best_runs_do(js):
    best, _ = load(BOOK / "results" / "figure_one_mnist.npz")
    gap = t_interval(100 * figure_one_measures.gap(best)[:, -1])
    end = js("BNLive.data['turn-up'].end")
    assert (end["steps"], end["seeds"]) == (best.steps[-1], len(best.seeds))
    np.testing.assert_allclose(
        [end["gap"], end["low"], end["high"]], [gap.mean, gap.low, gap.high], atol=6e-4
    )


def test_a_flat_sigmoid_is_one_of_less_than_a_tenth_of_the_slope():
    slope = 1 / (2 + math.exp(4) + math.exp(-4))  # at 4, and less beyond
    assert slope < 0.25 / 10


def drag(figure, panel, *places):
    """Move the pointer over one plot of a figure, places in shares of its width and height."""
    svg = figure.find_element("css selector", f"svg[data-panel={panel}]")
    width, height = svg.size["width"], svg.size["height"]
    at = [(round((x - 0.5) * width), round((y - 0.5) * height)) for x, y in places]
    moves = ActionChains(figure.parent).move_to_element_with_offset(svg, *at[0]).click_and_hold()
    for before, after in itertools.pairwise(at):
        moves.move_by_offset(after[0] - before[0], after[1] - before[1])
    moves.release().perform()


@pytest.fixture
def turn_up(browser):
    browser.execute_script("""
        document.body.innerHTML = '<bn-live figure="turn-up" style="display: block; width: 700px"></bn-live>'""")
    return browser.find_element("css selector", "bn-live")


def parameters(figure):
    return figure.parent.execute_script("return arguments[0].params()", figure)


def test_a_curve_can_be_drawn_and_the_time_dragged(turn_up):
    drag(turn_up, "accuracy", (0.3, 0.7), (0.5, 0.5), (0.7, 0.3))
    drawn = parameters(turn_up)["drawn"]
    looks = sorted(map(int, drawn))
    assert len(looks) == 3
    assert [drawn[str(t)] for t in looks] == sorted(drawn.values())
    assert "points off" not in turn_up.text
    turn_up.find_element("css selector", "input[type=checkbox]").click()
    assert "points off on average" in turn_up.text
    before = parameters(turn_up)
    drag(turn_up, "accuracy", (0.5, 0.5), (0.9, 0.5))
    after = parameters(turn_up)
    assert after["time"] > before["time"]
    assert after["drawn"] == before["drawn"]


def test_the_target_of_the_race_is_dragged(browser):
    browser.execute_script("""
        document.body.innerHTML = '<bn-live figure="recipe-race" style="display: block; width: 700px"></bn-live>'""")
    race = browser.find_element("css selector", "bn-live")
    found = []
    for y in (0.15, 0.5, 0.95):
        drag(race, "race", (0.5, 0.3), (0.5, y))
        found.append(parameters(race)["target"])
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0.7  # the lowest that the slider knows
    assert "To 70.0%" in race.text


def test_a_layer_is_chosen_by_a_click_and_let_go_by_another(turn_up):
    chosen = []
    for y in (0.2, 0.2, 0.75):
        drag(turn_up, "without", (0.5, y))
        chosen.append(parameters(turn_up)["layer"])
    assert chosen == [1, 0, 3]


def test_a_figure_plays_to_its_end_and_stops(turn_up):
    browser = turn_up.parent
    browser.execute_script("arguments[0].set({time: 18})", turn_up)
    button = turn_up.find_element("css selector", ".bn-live-play")
    button.click()
    WebDriverWait(browser, 60).until(lambda _: button.text == "▶")
    assert parameters(turn_up)["time"] == 20


@pytest.mark.parametrize(("power", "speed", "m"), [(-1, 0.01, 16), (-0.5, 0.03, 2), (0, 0.02, 9)])
def test_running_average(compute, power, speed, m):
    data = compute("running-average", logMomentum=power, speed=speed, m=m)
    batches = np.array([p["batch"] for p in data["points"]])
    average, momentum = np.zeros(1), 10.0**power
    for point in data["points"]:
        cache = bnlab.batch_norm_forward(np.full((2, 1), point["batch"]), np.ones(1), np.zeros(1))[
            1
        ]
        average, _ = bnlab.update_running_statistics(average, np.ones(1), cache, momentum=momentum)
        assert point["running"] == pytest.approx(average[0], rel=1e-9)
    truth = 1 + speed * np.arange(150)
    np.testing.assert_allclose([p["truth"] for p in data["points"]], truth, rtol=1e-12)
    assert np.std(batches - truth) == pytest.approx(m**-0.5, rel=0.2)
    theory = sampling.running_average(
        momenta=(momentum,), mean=1.0, speed=speed, batch_size=m, steps=150, runs=2
    )
    np.testing.assert_allclose(
        [p["expected"] for p in data["points"]], theory.expected[0], rtol=1e-9
    )
    assert data["noise"] == pytest.approx(theory.spread[0, -1], rel=1e-3)
    assert data["halfLife"] == pytest.approx(inference.half_life(momentum))
    assert data["startWeight"] == pytest.approx((1 - momentum) ** 150, abs=1e-15)
    assert data["lag"] == pytest.approx(truth[-1] - theory.expected[0, -1], abs=1e-4)


def test_running_average_takes_the_speed_from_a_place_in_the_plot(js):
    drag = "BNLive.figures['running-average'].drag({x: a[0], y: a[1]})"
    truth = 1 + 0.012 * (101 - 1)
    assert js(drag, 101, truth)["speed"] == pytest.approx(0.012)
    assert js(drag, 101, 9)["speed"] == pytest.approx(0.03)
    assert js(drag, 101, -1)["speed"] == 0
    assert js(drag, 5, 2) is None


@pytest.mark.parametrize("method", ["ZCA", "PCA"])
@pytest.mark.parametrize(("correlation", "spread"), [(0.8, 0.5), (-0.95, -1), (0.3, 1)])
def test_whiten_cloud(compute, method, correlation, spread):
    data = compute("whiten-cloud", correlation=correlation, spread=spread, method=method)
    raw, each, full = (np.array([[p["x"], p["y"]] for p in d["points"]]) for d in data["panels"])
    sigma = 2**spread
    expected = [[sigma**2, correlation * sigma], [correlation * sigma, 1]]
    np.testing.assert_allclose(np.cov(raw.T, bias=True), expected, atol=1e-12)
    np.testing.assert_allclose(each, scaling.standardize(raw).values, atol=1e-10)
    np.testing.assert_allclose(full, scaling.whiten(raw, method=method.lower()).values, atol=1e-9)
    if method == "ZCA":
        np.testing.assert_allclose(full, whitening.whitening_forward(raw, eps=0)[0], atol=1e-9)
    for panel, rows in zip(data["panels"], (raw, each, full), strict=True):
        covariance = np.cov(rows.T, bias=True)
        assert panel["condition"] == pytest.approx(np.linalg.cond(covariance), rel=1e-6)
        edge = np.array([[p["x"], p["y"]] for p in panel["ellipse"]])
        distance = np.einsum("ij,ij->i", edge @ np.linalg.inv(covariance), edge)
        np.testing.assert_allclose(distance, 4, rtol=1e-6)


@pytest.mark.parametrize(("features", "power", "seed"), [(16, 1, 1), (2, 0.1, 5), (32, 2, 3)])
def test_batch_spectrum(js, compute, features, power, seed):
    data = compute("batch-spectrum", features=features, perFeature=power, seed=seed)
    m = data["m"]
    assert m == max(features + 2, round(features * 2**power))
    columns = js(
        "(r => Array.from({length: a[1]}, () => r.normals(a[2])))(math.random(a[0]))",
        seed,
        features,
        m,
    )
    _, cache = whitening.whitening_forward(np.array(columns).T, eps=0)
    values = cache.variances[::-1]
    np.testing.assert_allclose(data["values"], values, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(data["variances"], np.diag(cache.covariance), rtol=1e-9)
    error = np.linalg.norm(cache.matrix - np.eye(features)) / math.sqrt(features)
    assert data["full"] == pytest.approx(error, rel=1e-6)
    scale = np.diag(cache.covariance) ** -0.5
    assert data["perFeature"] == pytest.approx(np.sqrt(np.mean((scale - 1) ** 2)), rel=1e-9)
    q = math.sqrt(features / m)
    assert [data["low"], data["high"]] == pytest.approx([(1 - q) ** 2, (1 + q) ** 2])


@pytest.mark.parametrize(
    ("rows", "features", "bandwidth"), [(12, 10, 40), (0, 13, 400), (16, 4, 5)]
)
def test_roofline(compute, rows, features, bandwidth):
    shape = (2**rows, 2**features)
    data = compute("roofline", rows=rows, features=features, bandwidth=bandwidth)
    norm, linear = data["layers"]
    form = making_it_fast.traffic("fewer passes", shape=(1024, 32), cache=1)
    assert norm["flops"] == form.flops / (1024 * 32) * np.prod(shape)
    assert norm["moved"] == floor_bytes(shape)
    one_product = making_it_fast.intensity(shape[0], shape[1], shape[1])
    assert linear["intensity"] == pytest.approx(one_product)  # the same for all three
    assert linear["flops"] == 3 * 2 * shape[0] * shape[1] ** 2
    assert data["ridge"] == pytest.approx(data["peak"] / bandwidth / 1e9)
    for layer in data["layers"]:
        slope = bandwidth * 1e9 * layer["flops"] / layer["moved"]
        assert layer["speed"] == pytest.approx(min(data["peak"], slope))
        seconds = max(layer["flops"] / data["peak"], layer["moved"] / bandwidth / 1e9)
        assert layer["seconds"] == pytest.approx(seconds)
        assert layer["memoryBound"] == (slope < data["peak"])
    both = norm["seconds"] + linear["seconds"]
    assert data["share"] == pytest.approx(norm["seconds"] / both)


def test_roofline_is_dragged(js, compute):
    """Its corner is the memory of the machine, the linear layer's point the rows of its batch."""
    drag = "BNLive.figures.roofline.drag(a[0], {rows: 12, features: 10, bandwidth: 40}, a[1])"
    assert js(drag, {"x": 5.5, "y": 190}, "pointerdown") == {
        "bandwidth": 35
    }  # 200 / 5.5, in steps of 5
    assert js(drag, {"x": 1e-3, "y": 1}, "pointermove") == {"bandwidth": 400}  # still the corner
    assert js(drag, {"x": 200, "y": 190}, "pointerdown") == {"rows": 11}
    for rows in (2, 9):
        intensity = compute("roofline", rows=rows)["layers"][1]["intensity"]
        assert js(drag, {"x": intensity, "y": 3}, "pointermove") == {"rows": rows}
    assert js(drag, {"x": 4000, "y": 3}, "pointermove") == {"rows": 16}


@pytest.mark.parametrize(
    ("target", "change"),
    [(0.7, "all, rate x 1"), (0.8, "no LRN"), (0.84, "rate x 5"), (0.9, "all")],
)
def test_recipe_race(compute, target, change):
    runs, _ = load(BOOK / "results" / "accelerating.npz")
    arms = compute("recipe-race", target=target, change=change)["arms"]
    assert [a["arm"] for a in arms] == ["plain", f"plain + {change}", "BN", f"BN + {change}"]
    for arm in arms:
        curves = runs.accuracy[runs.arms.index(arm["arm"])]
        steps = steps_to(curves, runs.at, target - 1e-9)
        assert arm["reached"] == np.isfinite(steps).sum()
        assert arm["seeds"] == len(runs.seeds)
        middle = np.median(steps)
        assert arm["steps"] == (middle if np.isfinite(middle) else None)
        np.testing.assert_allclose(
            [p["accuracy"] for p in arm["points"]], curves.mean(axis=0), atol=1e-6
        )
        assert [p["t"] for p in arm["points"]] == runs.at.tolist()
        np.testing.assert_allclose(arm["curves"], curves, atol=1e-4)
