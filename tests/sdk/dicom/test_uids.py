from __future__ import annotations

import uuid
from xml.etree import ElementTree

import pydicom.uid
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanside.dicom.uids import derived_uid, fingerprint, is_uid


@given(st.lists(st.one_of(st.text(), st.integers())))
def test_derived(key: list[str | int]) -> None:
    uid = derived_uid(*key)
    assert uid == derived_uid(*key)
    assert pydicom.uid.UID(uid).is_valid
    assert is_uid(uid)
    assert uuid.UUID(int=int(uid.removeprefix("2.25."))).version == 5


def test_parts_of_a_key_do_not_run_together() -> None:
    assert (
        len({derived_uid("ab", "c"), derived_uid("a", "bc"), derived_uid("abc"), derived_uid("ab", "c", "")})
        == 4
    )


def test_is_the_same_in_every_process_and_release() -> None:
    """Archives know images by these: they must not change."""
    assert derived_uid("series", 1) == "2.25.305686906931785113857441028411295330347"


@pytest.mark.parametrize("text", ["", "1.", ".1", "1..2", "1.02", "3.1", "1.2.a", "1.2 ", "1." * 32 + "1"])
def test_no_uid(text: str) -> None:
    assert not is_uid(text)


@pytest.mark.parametrize("text", ["1.2.840.10008.1.2", "2.25.0", "1." * 31 + "11"])
def test_uid(text: str) -> None:
    assert is_uid(text)


def test_fingerprint_sees_the_measurement_only() -> None:
    def of(xml: str) -> str:
        return fingerprint(ElementTree.fromstring(xml))

    inner = "<measurementInformation><measurementID>1</measurementID></measurementInformation>"
    plain = of(f"<ismrmrdHeader>{inner}</ismrmrdHeader>")
    subject = "<subjectInformation><patientID>x</patientID></subjectInformation>"
    assert of(f"<ismrmrdHeader>{subject}{inner}</ismrmrdHeader>") == plain
    spread = inner.replace("<measurementID>", "\n  <measurementID>").replace(
        "</measurementI", "\n</measurementI"
    )
    assert of(f"<ismrmrdHeader>{spread}</ismrmrdHeader>") == plain
    assert of(f"<ismrmrdHeader>{inner.replace('1<', '2<')}</ismrmrdHeader>") != plain
