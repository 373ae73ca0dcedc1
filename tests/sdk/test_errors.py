"""The tree of errors."""

from __future__ import annotations

import inspect
import re

import pytest

from scanside import errors
from scanside.errors import MissingExtra, ScanError, ScansideError, StageError

pytestmark = pytest.mark.torch_free

CLASSES = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}


def test_all_are_public_and_in_one_tree() -> None:
    assert sorted(CLASSES) == sorted(errors.__all__)
    assert all(issubclass(one, ScansideError) for one in CLASSES.values())


def test_drawn_tree_is_the_tree() -> None:
    """The picture in the module's docstring shows each error with its parent and its nearest built-in."""
    parents: list[str] = []
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"( {4}[│├└─ ]*)(\w+)(?: \((\w+)\))?(?: |$)", line):
            depth = (len(found[1]) - 4) // 4
            parents = [*parents[:depth], found[2]]
            drawn[found[2]] = (parents[-2] if depth else "Exception", found[3])
    assert sorted(drawn) == sorted(CLASSES)
    for name, (parent, builtin) in drawn.items():
        bases = [base.__name__ for base in CLASSES[name].__bases__]
        assert bases == [parent, *([builtin] if builtin else [])], name


def test_stage_error_says_where_and_what() -> None:
    ours = StageError("grappa", ScanError("acquire ACS lines"), 17)
    assert str(ours) == "stage 'grappa', in the block that ends with scan counter 17: acquire ACS lines"
    assert ours.scan_counter == 17
    assert str(StageError("mine", ZeroDivisionError())) == "stage 'mine': ZeroDivisionError: no message"
    assert str(StageError("mine", KeyError("x"))) == "stage 'mine': KeyError: 'x'"


def test_missing_extra_says_what_to_install() -> None:
    error = MissingExtra("torch", "torch", "reconstruction")
    assert isinstance(error, ImportError)
    assert "reconstruction needs the package 'torch'" in str(error)
    assert "pip install 'scanside[torch]'" in str(error)
