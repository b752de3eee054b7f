"""Every line of the derivation holds, and no line survives a changed sign or a changed 1/m."""

import re
import subprocess
import sys
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import sympy as sp
import torch

from bnlab import derivation, reference
from bnlab.derivation import _meaning
from bnlab.derivation import symbols as letters

m = letters.m


def by_name(line):
    return line.name.replace(" ", "_")


every_line = pytest.mark.parametrize("line", derivation.LINES, ids=by_name)


def sizes(line, wanted=(2, 3, 4)):
    return wanted if line.only is None else (line.only,)


@every_line
def test_line_holds_exactly(line):
    assert [line.verify(size) for size in sizes(line)] == [True] * len(sizes(line))
    assert all(line.difference(size) == 0 for size in sizes(line))


@every_line
def test_line_holds_numerically_for_random_batches(line):
    rng = np.random.default_rng(20150211)
    for seed in range(3):
        size = line.only or int(rng.integers(5, 40))
        assert line.error(size, seed=seed) < 1e-20


# ---- mutants ---------------------------------------------------------------------------------------


def changed(e):
    """Yield the expression with one sign flipped, or one 1/m dropped or made 1/(m - 1)."""
    if isinstance(e, sp.Add):
        yield from (e - 2 * term for term in e.args)
    if e == 1 / m:
        yield from (sp.S.One, 1 / (m - 1))
    if e.is_Rational and e != 0:
        yield -e
    for n, part in enumerate(e.args):
        limits, index, exponent = (
            isinstance(part, sp.Tuple),
            isinstance(e, sp.Indexed),
            e.is_Pow and n,
        )
        if not (limits or index or exponent):
            yield from (e.func(*e.args[:n], new, *e.args[n + 1 :]) for new in changed(part))


def mutants(line):
    """Yield the line with one side changed inside, negated, or multiplied by 1/m."""
    for side in ("left", "right"):
        old = getattr(line, side)
        for new in dict.fromkeys([*changed(old), -old, old / m]):
            yield replace(line, **{side: new})


@every_line
def test_no_mutant_survives_the_exact_check(line):
    found = list(mutants(line))
    assert len(found) >= 4
    for size in sizes(line):
        alive = [mutant for mutant in found if mutant.verify(size)]
        if (line.name, size) == ("bound", 2):  # one other example makes no pairs: that sum is 0
            assert len(alive) == 3
        else:
            assert alive == [], f"m = {size}"


@every_line
def test_no_mutant_survives_the_numerical_check(line):
    for mutant in mutants(line):
        assert mutant.error(line.only or 7) > 1e-6, mutant


def test_mutants_are_what_they_should_be():
    line = derivation.find("variance")
    x, mu, j = letters.x, letters.mu_B, letters.j
    rights = {mutant.right for mutant in mutants(line)} - {line.right}
    total = sp.Sum((x[j] - mu) ** 2, (j, 1, m))
    assert rights == {
        total, total / (m - 1), -total / m, total / m**2,
        sp.Sum((x[j] + mu) ** 2, (j, 1, m)) / m, sp.Sum((-x[j] - mu) ** 2, (j, 1, m)) / m,
    }  # fmt: skip


def subs(line, old, new):
    if old == 1 / m:  # subs would also see the m in the limits of the sums
        left, right = (side.xreplace({old: new}) for side in (line.left, line.right))
    else:
        left, right = line.left.subs(old, new), line.right.subs(old, new)
    assert (left, right) != (line.left, line.right)
    return replace(line, left=left, right=right)


root = sp.sqrt(letters.var_B + letters.eps)
NAMED = {
    "eps outside the root": ("normalize", root, sp.sqrt(letters.var_B) + letters.eps),
    "eps forgotten": ("normalize", letters.eps, 0),
    "variance instead of root": ("normalize", root, root**2),
    "unbiased variance": ("variance", 1 / m, 1 / (m - 1)),
    "beta before gamma": ("scale and shift", letters.beta, letters.gamma * letters.beta),
    "identity without eps": ("identity", letters.eps, 0),
    "no gradient through the variance": ("dx", letters.dvar_B, 0),
    "no gradient through the mean": ("dx", letters.dmu_B, 0),
    "sum instead of mean": ("one line", 1 / m, 1),
    "the square root's 1/2 lost": ("dvar", sp.Rational(-1, 2), -1),
    "the square's 2 lost": ("dmu", -2, -1),
    "gamma counted twice": ("dx_hat", letters.gamma, letters.gamma**2),
    "bound of m instead of m - 1": ("bound", letters.x_hat[1] ** 2, letters.x_hat[1] ** 2 - 1),
}


@pytest.mark.parametrize("mistake", NAMED)
def test_named_mistakes_are_found(mistake):
    name, old, new = NAMED[mistake]
    wrong = subs(derivation.find(name), old, new)
    assert not wrong.verify(3)
    assert wrong.difference(3) != 0
    assert wrong.error(9) > 1e-6


def test_the_mean_is_left_free_because_a_wrong_sign_vanishes_at_it():
    line = derivation.find("dmu")
    wrong = replace(line, right=line.right.subs(-2, 2))
    assert wrong != line
    assert not wrong.verify(3)
    assert replace(wrong, free=()).verify(3)


def test_a_line_must_hold_for_every_example_of_the_batch():
    line = derivation.find("normalize")
    only_the_first = replace(line, right=line.right.subs(letters.i, 1))
    assert only_the_first.at(2).subs(letters.i, 1) == line.at(2).subs(letters.i, 1)
    assert not only_the_first.verify(2)
    assert only_the_first.error(5) > 1e-6


def test_what_no_polynomial_can_show_counts_as_wrong():
    line = derivation.find("normalize")
    assert not replace(line, right=line.right.subs(letters.eps, -letters.eps)).verify(2)
    assert not replace(line, right=sp.Symbol("surprise")).verify(2)


# ---- the meanings themselves -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(5)
    x, dy = rng.normal(2.0, 3.0, size=(2, 11, 1))
    return x, dy, rng.normal(size=1), rng.normal(size=1), 0.3


def evaluate(line, values):
    values = {key: values[key] for key in values}
    arguments = [m, letters.i, *values]
    side = sp.lambdify(arguments, line.right, "numpy")
    return lambda size, i: side(size, i, *values.values())


def from_one(column):
    return [None, *column.ravel().tolist()]


def test_lines_give_what_the_reference_gives(batch):
    x, dy, gamma, beta, eps = batch
    y, cache = reference.batch_norm_forward(x, gamma, beta, eps=eps)
    dx, dgamma, dbeta = reference.batch_norm_backward(dy, cache)
    values = {
        letters.x: from_one(x), letters.dy: from_one(dy), letters.x_hat: from_one(cache.x_hat),
        letters.gamma: gamma[0], letters.beta: beta[0], letters.eps: eps,
        letters.mu_B: cache.mu_B[0], letters.var_B: cache.var_B[0],
    }  # fmt: skip
    for name, expected in {
        "mean": cache.mu_B, "variance": cache.var_B, "normalize": cache.x_hat, "scale and shift": y,
        "one line": dx, "dgamma": dgamma, "dbeta": dbeta,
    }.items():  # fmt: skip
        line = evaluate(derivation.find(name), values)
        got = [line(len(x), i) for i in range(1, len(x) + 1)][: expected.size]
        np.testing.assert_allclose(got, expected.ravel(), rtol=1e-12, err_msg=name)


def test_the_numbers_are_those_of_torch():
    numbers = _meaning.numbers_for(9, (), 3)

    def column(base):
        return torch.tensor([[float(v)] for v in numbers[base][1:]], dtype=torch.float64)

    def number(symbol):
        return torch.tensor([float(numbers[symbol])], dtype=torch.float64)

    x = column(letters.x).requires_grad_()
    gamma, beta = (number(s).requires_grad_() for s in (letters.gamma, letters.beta))
    eps = float(numbers[letters.eps])
    y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True, eps=eps)
    y.backward(column(letters.dy))
    torch.testing.assert_close(y, column(letters.y))
    torch.testing.assert_close(x.grad, column(letters.dx))
    torch.testing.assert_close(gamma.grad, number(letters.dgamma))
    torch.testing.assert_close(beta.grad, number(letters.dbeta))


def test_exact_and_numerical_meanings_agree():
    """They are found by different means: symbolic against numerical differentiation."""
    exact, numbers = _meaning.meanings(3, ()), _meaning.numbers_for(3, (), 0)
    flat = {base[a]: numbers[base][a] for base in (letters.x, letters.dy) for a in (1, 2, 3)}
    flat |= {s: numbers[s] for s in (letters.gamma, letters.beta)}
    flat[letters.s] = mpmath.sqrt(numbers[letters.var_B] + numbers[letters.eps])
    for symbol, meaning in exact.items():
        indexed = isinstance(symbol, sp.Indexed)
        number = numbers[symbol.base][symbol.indices[0]] if indexed else numbers[symbol]
        assert float(meaning.subs(flat)) == pytest.approx(float(number), rel=1e-12), symbol


# ---- what a reader touches -------------------------------------------------------------------------


def test_names_are_unique_and_every_line_has_its_words():
    names = [line.name for line in derivation.LINES]
    assert len(set(names)) == len(names) == 22
    assert all(line.says.endswith(".") and line.reason.endswith(".") for line in derivation.LINES)


def test_line_shows_as_math_in_the_papers_symbols():
    shown = derivation.find("normalize")._repr_latex_()
    assert shown == (
        r"$\displaystyle \widehat{x}_{i} = \frac{x_{i} - \mu_{\mathcal{B}}}"
        r"{\sqrt{\sigma^{2}_{\mathcal{B}} + \epsilon}}$"
    )
    assert r"y_{i} = \gamma \widehat{x}_{i} + \beta" in derivation.find("scale and shift").latex()
    together = derivation.CHAIN_RULE._repr_latex_()
    assert together.count("&=") == 6
    assert r"\frac{ \partial \ell }{ \partial \sigma^{2}_{\mathcal{B}} } &= -" in together
    assert "dvar" not in together
    assert not re.search(
        r"\\frac\{[^}]*\\frac", derivation.LINES._repr_latex_()
    )  # none inside another


def test_text_is_plain_and_stable():
    assert repr(derivation.find("dx_hat")) == "dx_hat: dx_hat[i] = gamma*dy[i]"
    assert (
        repr(derivation.ALGORITHM).splitlines()[3]
        == "scale and shift: y[i] = beta + gamma*x_hat[i]"
    )


def test_a_report_says_which_line_is_wrong_and_is_false():
    good = derivation.find("mean")
    bad = replace(good, name="bad mean", right=-good.right)
    report = derivation.check([good, bad], sizes=(2, 3), seed=1)
    assert not report
    assert derivation.check([good])
    rows = repr(report).splitlines()
    assert rows[1].split()[:3] == ["mean", "exact", "exact"]
    assert rows[2].split()[:4] == ["bad", "mean", "WRONG", "WRONG"]
    assert "off by 2" in rows[2]


def test_a_report_is_false_if_only_one_check_fails():
    good = derivation.check([derivation.find("mean")])
    assert not replace(good, exact=({2: True, 3: False},))
    assert not replace(good, numerical=((7, 0.1),))


@pytest.mark.parametrize("lines", [[], "mean", [derivation.find("mean"), "dbeta"]])
def test_a_check_of_nothing_is_no_proof(lines):
    with pytest.raises(ValueError, match=r"expected at least one Step.*find\(name\)"):
        derivation.check(lines)


def test_the_random_batch_has_room():
    with pytest.raises(ValueError, match="largest is 4; expected at least 5"):
        derivation.check([derivation.find("mean")], largest=4)


def test_a_missing_sympy_is_named_with_the_fix():
    code = (
        "import sys; sys.modules['sympy'] = None\n"
        "try: import bnlab.derivation\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install sympy" in run.stdout


@pytest.mark.parametrize("size", [1, 0, -3])
def test_small_batches_are_refused(size):
    with pytest.raises(ValueError, match="at least 2, because one value has no variance"):
        derivation.find("mean").verify(size)


@pytest.mark.parametrize("size", [2.0, "3", True, None])
def test_sizes_are_whole_numbers(size):
    with pytest.raises(TypeError, match="expected a whole number"):
        derivation.find("mean").error(size)


def test_the_line_on_two_is_about_two():
    with pytest.raises(ValueError, match="about m = 2 alone"):
        derivation.find("batch of two").verify(3)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="'one line'"):
        derivation.find("two lines")
