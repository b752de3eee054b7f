"""Public docstrings say what a reader looks up: numpydoc's checks, those of them that serve this.

Left out are checks of blank lines and quotes, which ruff formats, and of sections that not every
docstring needs: See Also (SA01), an extended summary (ES01), a certain order (GL07).
"""

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass

import pytest
from numpydoc.validate import validate

import bnlab

CHECKS = {
    "GL08": "there is a docstring",
    "SS01": "it begins with a sentence that says what the thing is or does",
    "SS02": "which begins with a capital letter",
    "SS03": "ends with a period",
    "SS05": "and tells what to do (Return), not what is done (Returns)",
    "SS06": "on one line, because the index of the book shows that line alone",
    "PR01": "every parameter is explained",
    "PR02": "and nothing that is no parameter",
    "PR03": "in the order of the signature",
    "PR04": "with its type",
    "PR07": "and its meaning",
    "RT01": "what comes back is explained",
    "RT03": "with its meaning",
    "YD01": "also if it comes back piece by piece",
    "EX01": "there is an example, which doctest runs",
}
# A field of these is explained where it is declared or under Attributes, and they are made by functions.
GENERATED = {"PR01", "EX01"}
LEFT_OUT = ("bnlab.chapters", "bnlab.cli")
NO_EXAMPLE = {  # name: why there can be none
    "bnlab.data._fetch.fetch": "it downloads",
    "bnlab.data.images.fashion_mnist": "its files may not be on this machine",
    "bnlab.data.images.mnist": "its files may not be on this machine",
    "bnlab.experiments.store.load": "the example of save loads what it saved",
    "bnlab.experiments._run.run": "it starts processes; the page about long runs shows it",
}


def public():
    """Yield every public function, class, method and property of the library: where its name leads."""
    for info in pkgutil.walk_packages(bnlab.__path__, "bnlab."):
        if "._" in info.name or info.name.startswith(LEFT_OUT):
            continue
        module = importlib.import_module(info.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if inspect.isfunction(thing) or inspect.isclass(thing):
                yield thing
            if inspect.isclass(thing):
                for name, member in vars(thing).items():
                    member = getattr(member, "fget", getattr(member, "__func__", member))
                    if inspect.isfunction(member) and not name.startswith("_"):
                        yield member


THINGS = {f"{thing.__module__}.{thing.__qualname__}": thing for thing in public()}


def left_out(name):
    thing = THINGS[name]
    if inspect.isclass(thing):
        return GENERATED if is_dataclass(thing) or issubclass(thing, tuple) else set()
    method = "." in thing.__qualname__  # the class shows in its own example what it is for
    return {"EX01"} if method or name in NO_EXAMPLE else set()


@pytest.mark.parametrize("name", THINGS)
def test_a_docstring_says_what_a_reader_looks_up(name):
    wanted = CHECKS.keys() - left_out(name)
    missing = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in wanted]
    assert not missing, f"{name}:\n" + "\n".join(missing)


def test_every_module_of_the_library_says_what_is_public():
    modules = [getattr(bnlab, name) for name in bnlab.__all__ if name != "chapters"]
    silent = {m.__name__ for m in modules if inspect.ismodule(m) and not hasattr(m, "__all__")}
    assert silent == set()
    assert {f"bnlab.reference.{name}" for name in bnlab.reference.__all__} <= set(THINGS)


def test_every_exception_from_examples_is_needed():
    for name in NO_EXAMPLE:
        assert "EX01" in {code for code, _ in validate(name)["errors"]}, f"{name} has an example"
