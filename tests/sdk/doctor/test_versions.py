"""Versions, compared with what packaging says, which many environments lack."""

from __future__ import annotations

import pytest

from scanside.doctor.versions import installed, required, satisfies

pytestmark = pytest.mark.torch_free


def test_installed() -> None:
    assert installed("numpy") is not None
    assert installed("no-such-package-of-ours") is None


@pytest.mark.parametrize("found", ["2.13.0", "2.13", "2.12.9", "2.14.0", "11.0.0.114", "2.13.0+cpu"])
@pytest.mark.parametrize(
    "specifier",
    ["", ">=2.13", "<2.14.0,>=2.13.0", "==2.13", "!=2.13.0", ">2.13", "<=2.13.0", "<11.1.0,>=11.0.0"],
)
def test_as_packaging_says(found: str, specifier: str) -> None:
    specifiers = pytest.importorskip("packaging.specifiers")
    assert satisfies(found, specifier) == specifiers.SpecifierSet(specifier).contains(found)


def test_what_is_not_known_counts_for_nothing() -> None:
    assert satisfies("1.0", "~=2.0, ===3")


def test_required() -> None:
    assert required("scanside", "numpy") == ">=1.26"
    # What comes with an extra, and under another spelling.
    assert required("scanside", "PyYAML") == ">=6"
    assert required("scanside", "Jinja2") == ">=3.1"
    assert required("scanside", "no-such-package-of-ours") == ""
    assert required("no-such-package-of-ours", "numpy") == ""
