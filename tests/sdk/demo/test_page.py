"""The report of the demonstration."""

from __future__ import annotations

from scanside.demo import DemoResult


def test_says_what_was_compared_and_what_was_not(made: DemoResult) -> None:
    html = made.report.read_text("utf-8")
    for expected in (
        "compared with the truth",
        "bit for bit",
        "Time per stage",
        "Research use only",
        "PSNR GRAPPA, dB",
        "CG-SENSE",
        "student: there is no bundle named &#39;brain-student&#39;",
        "Film of a beating heart",
        "view sharing",
        "data:image/gif;base64",
    ):
        assert expected in html
    assert "<td>chosen</td>" in html
    assert "not built on this machine yet" in html
