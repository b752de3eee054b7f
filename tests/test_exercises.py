"""Every checker of the book accepts right answers, and names the mistake in each wrong one."""

import ast
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from bnlab import chapters


def checkers(topic):
    return importlib.import_module(f"bnlab.chapters.{topic}.exercises")


TOPICS = tuple(topic for topic in chapters.TOPICS if topic != "claims")  # which has no exercises
TABLES = {topic: importlib.import_module(f"exercise_tables.{topic}") for topic in TOPICS}
CHECKERS = [(topic, name) for topic in TOPICS for name in checkers(topic).__all__]
RIGHT = [
    pytest.param(topic, name, answer, id=f"{topic}.{name}-{i}")
    for topic, table in TABLES.items()
    for name, answers in table.RIGHT.items()
    for i, answer in enumerate(answers)
]
WRONG = [
    pytest.param(topic, name, answer, hint, id=f"{topic}.{name}-{mistake}")
    for topic, table in TABLES.items()
    for name, mistakes in table.WRONG.items()
    for mistake, (answer, hint) in mistakes.items()
]


@pytest.mark.parametrize(("topic", "name", "answer"), RIGHT)
def test_right_answers_pass(topic, name, answer):
    verdict = getattr(checkers(topic), name)(answer)
    assert verdict, verdict
    assert repr(verdict).startswith("Correct: ")


@pytest.mark.parametrize(("topic", "name", "answer", "hint"), WRONG)
def test_wrong_answers_fail_and_the_hint_names_the_mistake(topic, name, answer, hint):
    verdict = getattr(checkers(topic), name)(answer)
    assert not verdict
    assert hint in verdict.message, verdict
    assert repr(verdict).startswith("Not yet: ")


def stub(*_):
    raise NotImplementedError


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (stub, "is still a stub. Replace `raise NotImplementedError`"),
        (lambda *_: None, "returned None. Did you forget `return`?"),
        (lambda *_: 1 / 0, "raised ZeroDivisionError: division by zero"),
    ],
    ids=["stub", "None", "exception"],
)
@pytest.mark.parametrize(("topic", "name"), CHECKERS)
def test_no_answer_is_refused_clearly(topic, name, answer, says):
    verdict = getattr(checkers(topic), name)(answer)
    assert not verdict
    assert says in verdict.message


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("text", "the answer is a str, expected numbers"),
        (np.zeros((2, 7)), r"the answer has shape \(2, 7\), expected"),
        (np.nan, r"the answer holds NaN or Inf|the answer has shape \(\), expected an array"),
    ],
    ids=["text", "shape", "NaN"],
)
@pytest.mark.parametrize(("topic", "name"), CHECKERS)
def test_an_answer_of_another_kind_is_refused_clearly(topic, name, answer, says):
    verdict = getattr(checkers(topic), name)(lambda *_: answer)
    assert not verdict
    assert re.match(f"{says}|return two arrays, |out is untouched", verdict.message), verdict


@pytest.mark.parametrize("topic", TOPICS)
def test_the_tables_hold_every_checker(topic):
    table = TABLES[topic]
    assert set(table.RIGHT) == set(table.WRONG) == set(checkers(topic).__all__)


def hints(tree):
    """List (checker, node, text) of what a reader may be told: texts with a space, but no docstring and no praise."""
    found = []

    def visit(node, checker):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "correct":
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        parts = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.JoinedStr | ast.Constant):  # an f-string is one text
            texts = [part for part in parts or [node] if isinstance(part, ast.Constant)]
            text = "".join(str(part.value) for part in texts)
            if " " in text:
                found.append((checker, node, text))
            parts = [part for part in parts if part not in texts]
        for part in parts:
            visit(part, checker)

    for function in tree.body:
        if isinstance(function, ast.FunctionDef):
            visit(function, function.name)
    return found


def replaced(tree, node, text):
    class Replace(ast.NodeTransformer):
        def visit(self, other):
            return ast.Constant(text) if other is node else self.generic_visit(other)

    return ast.fix_missing_locations(Replace().visit(tree))


@pytest.mark.parametrize("topic", TOPICS)
def test_every_hint_is_tied_to_a_wrong_answer(topic):
    """Put all other hints of a checker in the place of one: some wrong answer must miss the words of its own."""
    path = Path(checkers(topic).__file__)
    source = path.read_text()
    loose = []
    for i, (name, _, text) in enumerate(hints(ast.parse(source))):
        tree = ast.parse(source)
        found = hints(tree)
        others = " ".join(t for checker, _, t in found if checker == name and t != text)
        module = {"__name__": "mutant"}
        exec(compile(replaced(tree, found[i][1], f"Nonsense. {others}"), path, "exec"), module)
        if all(says in module[name](f).message for f, says in TABLES[topic].WRONG[name].values()):
            loose.append(f"{name}: {text}")
    assert not loose, "no wrong answer is tied to:\n" + "\n".join(loose)
