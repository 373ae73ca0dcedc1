"""A scan and its warnings."""

from __future__ import annotations

import logging

import pytest

from scanside.agreement import Finding
from scanside.errors import HeaderError
from scanside.scan import Scan, ScanEnd
from scanside.testing import small_scan


def test_warnings_are_noted_once_in_order(caplog: pytest.LogCaptureFixture) -> None:
    scan = small_scan()
    with caplog.at_level(logging.WARNING, "scanside"):
        for text in ("noise is missing", "centre is odd", "noise is missing"):
            scan.warn(text)
    assert scan.warnings == ["noise is missing", "centre is odd"]
    assert caplog.messages == scan.warnings
    assert small_scan().warnings == []


def test_findings_of_which_a_stage_takes_care_are_not_told() -> None:
    findings = [Finding("warning", "lines run both ways", corrected_by="epi"), Finding("warning", "odd")]
    for corrected_by, told in ((set(), ["lines run both ways", "odd"]), ({"epi"}, ["odd"])):
        scan = small_scan()
        scan.corrected_by |= corrected_by
        for finding in findings:
            scan.find(finding)
        assert scan.warnings == told


def test_percent_in_a_warning_is_text(caplog: pytest.LogCaptureFixture) -> None:
    small_scan().warn("100 %s of 5 %")
    assert caplog.messages == ["100 %s of 5 %"]


def test_header_comes_with_it() -> None:
    scan = small_scan()
    assert scan.encoding().recon.matrix == (24, 24, 1)
    with pytest.raises(HeaderError, match="encoding space 3"):
        scan.encoding(3)
    with pytest.raises(HeaderError, match="not well-formed"):
        Scan.from_xml(b"<ismrmrdHeader>")


def test_a_scan_ends_well_unless_told() -> None:
    assert ScanEnd() == ScanEnd(complete=True, reason=None)
