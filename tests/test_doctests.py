"""Every example in a docstring is true."""

import doctest
import importlib
import pkgutil

import pytest

import indelible

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(indelible.__path__, "indelible.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_module_are_true(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert 0 == outcome.failed


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = [importlib.import_module(name) for name in MODULES]
    examples = [test for module in modules for test in finder.find(module) if test.examples]
    assert len(examples) >= 10
