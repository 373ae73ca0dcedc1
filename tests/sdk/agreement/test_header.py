"""What a header says that no reconstruction takes into account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.torch_free

_PARALLEL = (
    "<parallelImaging><accelerationFactor><kspace_encoding_step_1>1</kspace_encoding_step_1>"
    "<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
    "<multiband><spacing><dZ>0</dZ></spacing><multiband_factor>{}</multiband_factor></multiband></parallelImaging>"
)


@pytest.mark.parametrize("factor", [1, 3])
def test_multiband(make_scan: Callable[..., Any], factor: int) -> None:
    scan = make_scan()
    scan.change_header("</trajectory>", "</trajectory>" + _PARALLEL.format(factor))
    told, found = scan.compare()
    assert told == found
    assert [finding.level for finding in found] == ["error"] * (factor > 1)
    assert all(finding.corrected_by == "multiband" for finding in found)
    assert all(
        "multiband factor 3" in finding.text and "on top of each other" in finding.text for finding in found
    )


def test_image_larger_than_what_was_encoded(make_scan: Callable[..., Any]) -> None:
    scan = make_scan()
    start = scan.xml.index("<reconSpace>")
    scan.xml = scan.xml[:start] + scan.xml[start:].replace("<y>240.0</y>", "<y>300.0</y>")
    assert [text for text in scan.texts() if "cover 300 mm along y, but only 240 mm were encoded" in text]
