"""Intervals are SciPy's, and a table says in HTML what it says in text."""

import re
from html import unescape

import numpy as np
import pytest
from scipy import stats

from bnlab.stats import Interval, Table, t_interval


@pytest.mark.parametrize(("n", "confidence"), [(2, 0.95), (3, 0.9), (6, 0.95), (40, 0.99)])
def test_the_interval_is_scipys(n, confidence):
    samples = np.random.default_rng(n).normal(size=(n, 2))
    got = t_interval(samples, confidence=confidence)
    sem = samples.std(axis=0, ddof=1) / np.sqrt(n)
    low, high = stats.t.interval(confidence, n - 1, samples.mean(axis=0), sem)
    np.testing.assert_allclose([got.low, got.high], [low, high], rtol=1e-4)
    np.testing.assert_allclose(got.mean, samples.mean(axis=0))


def test_a_geometric_interval_is_that_of_the_logarithms():
    samples = np.array([0.1, 1.0, 10.0])
    got, logs = t_interval(samples, geometric=True), t_interval(np.log(samples))
    np.testing.assert_allclose(
        np.log([got.mean, got.low, got.high]), [logs.mean, logs.low, logs.high], atol=1e-12
    )


@pytest.mark.parametrize(
    ("samples", "settings", "message"),
    [
        ([1.0], {}, r"1 seed\(s\).*at least 2"),
        (3.0, {}, "at least 2"),
        ([1.0, 2.0], {"confidence": 95}, "confidence is 95"),
        ([0.0, 2.0], {"geometric": True}, "positive"),
    ],
)
def test_an_interval_needs_seeds(samples, settings, message):
    with pytest.raises(ValueError, match=message):
        t_interval(np.array(samples), **settings)


def test_intervals_print():
    assert repr(Interval(*map(np.array, (1.0, 0.5, 1.5)))) == "1 [0.5, 1.5]"
    assert repr(t_interval(np.eye(3))) == "Interval of (3,) means"


def test_a_table_lines_its_columns_up():
    table = Table({"a": ["x", "long name"], "number": [1 / 3, 12]})
    assert repr(table) == "a          number\nx          0.333\nlong name  12"


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"a": [1], "b": [1, 2]}, {}, "'a': 1, 'b': 2"),
        ({"a": [1]}, {"formats": {"c": ".2f"}}, r"\['c'\] are no columns; there are \['a'\]"),
        ({"a": [1]}, {"best": {"b": min}}, r"\['b'\] are no columns"),
    ],
)
def test_a_wrong_table_is_refused(columns, settings, message):
    with pytest.raises(ValueError, match=message):
        Table(columns, **settings)


def test_a_table_in_html_has_the_same_cells_and_marks_the_best():
    gain = Interval(*np.array([[1.25, 2.5], [1.0, 2.25], [1.5, 2.75]]))
    table = Table(
        {"<arm>": ["a&b", "c"], "loss": [0.5, 0.25], "gain": gain},
        formats={"gain": ".2f"},
        best={"loss": min, "gain": max},
    )
    html = table._repr_html_()
    assert re.findall(r"<b>(.*?)</b>", html) == ["0.25", "2.50"]
    assert (
        '<th scope="row">a&amp;b</th><td>0.5</td><td>1.25<small> [1.00, 1.50]</small></td>' in html
    )
    assert html.count("<tr>") == 3
    text = unescape(re.sub(r"<[/a-z][^>]*>", "", re.sub(r"</t[hd]>", "  ", html)))
    assert text.split() == repr(table).split()
