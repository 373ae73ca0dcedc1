from __future__ import annotations

import pytest

from scanside.dicom.destination import Destination
from scanside.errors import ConfigError


def test_parse() -> None:
    found = Destination.parse("pacs.local:104", "PACS", "ME", 5)
    assert found == Destination("pacs.local", 104, "PACS", "ME", 5)
    assert Destination.parse("[::1]:11112").host == "::1"
    assert str(found) == "PACS at pacs.local:104"


@pytest.mark.parametrize(
    "address", ["pacs", "pacs:", ":104", "pacs:0", "pacs:65536", "pacs:-1", "pacs:dicom"]
)
def test_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"pacs|104"):
        Destination.parse(address)


@pytest.mark.parametrize("title", ["", "  ", "A" * 17, "A\\B", "Ä"])
def test_no_title(title: str) -> None:
    with pytest.raises(ConfigError, match="entity title"):
        Destination.parse("pacs:104", called=title)
