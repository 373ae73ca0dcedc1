"""Reports hold what they promise, in one file, and nothing of theirs is taken for HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from scanside.inspection import inspect_file
from scanside.items import Image
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.replay import replay
from scanside.report import Observations, inspection_report, replay_report
from scanside.report.page import Facts, Messages, Page, Section
from scanside.simulate import CoilConfig, GeometryConfig, PhantomConfig, SamplingConfig, ScanConfig, simulate
from scanside.testing.small import small_readouts, small_scan
from scanside.trace import Trace

SCAN = ScanConfig(
    name="protocol <b>",
    phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
    coils=CoilConfig(n_coils=4),
    sampling=SamplingConfig(acceleration=(2, 1), acs=(12, 0)),
    geometry=GeometryConfig(matrix=(32, 32, 1), n_slices=2),
)


class Outline(HTMLParser):
    """Headings, pictures and text of a page; everything that would be loaded from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.alts: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.open.append(tag)
        if tag == "img":
            self.alts.append(given["alt"] or "")
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self.open.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)
        self.text += data


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    scan = simulate(SCAN)
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    return path


def test_replay_report(recording: Path, tmp_path: Path) -> None:
    observed = Observations()
    result = replay(recording, "grappa", observe=observed)
    result.images[1].incomplete = "lines are missing"
    replay_report(
        result.images,
        tmp_path / "new" / "report.html",
        pipeline="grappa",
        via="direct",
        found=inspect_file(recording),
        observed=observed,
        trace=result.trace,
        seconds=result.seconds,
        warnings=["something <script>"],
    )
    html = (tmp_path / "new" / "report.html").read_text("utf-8")
    page = Outline(html)
    assert page.headings == [
        "scan.h5",
        "Warnings",
        "Images",
        "Sampling",
        "Coil sensitivity maps",
        "Noise",
        "Time per stage",
        "Scan",
        "Attributes of the first image",
    ]
    assert len(page.alts) == 4
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"https?://", html)
    assert "<script>" not in html
    for expected in (
        "Research use only",
        "something <script>",
        "protocol <b>",
        "lines are missing",
        "grappa",
    ):
        assert expected in page.text
    assert result.trace is not None
    for row in result.trace.summary():
        assert str(row["stage"]) in page.text


def test_report_of_another_process_says_what_it_does_not_know(recording: Path, tmp_path: Path) -> None:
    result = replay(recording, "fft")
    replay_report(result.images, tmp_path / "r.html", pipeline="fft", via="gadgetron")
    page = Outline((tmp_path / "r.html").read_text("utf-8"))
    assert "Coil sensitivity maps" not in page.headings
    assert "their times are in its log" in page.text


def test_ghosts_are_among_the_first_figures(recording: Path, tmp_path: Path) -> None:
    images = replay(recording, "fft").images
    for image, level in zip(images, ("0.0123", "0.0201"), strict=True):
        image.meta["ScansideGhost"] = [level]
    replay_report(images, tmp_path / "r.html", pipeline="epi", via="direct")
    text = " ".join(Outline((tmp_path / "r.html").read_text("utf-8")).text.split())
    assert "Nyquist ghost, median and largest" in text
    assert "1.6 %, 2.0 %" in text


def test_reports_name_nobody(tmp_path: Path) -> None:
    header = small_scan().header.xml.replace(
        b"<measurementInformation>",
        b"<subjectInformation><patientName>Nemo^Nobody</patientName><patientID>7Q7</patientID>"
        b"</subjectInformation><measurementInformation>",
        1,
    )
    with Hdf5Writer(tmp_path / "scan.h5", header) as writer:
        for block in small_readouts():
            writer.write(block)
    result = replay(tmp_path / "scan.h5", "fft")
    found = inspect_file(tmp_path / "scan.h5")
    replay_report(result.images, tmp_path / "replay.html", pipeline="fft", via="direct", found=found)
    inspection_report(found, tmp_path / "inspection.html")
    for name in ("replay", "inspection"):
        html = (tmp_path / f"{name}.html").read_text("utf-8")
        assert "small_1" in html, "the measurement is named"
        assert "Nemo" not in html
        assert "7Q7" not in html


def test_inspection_report(recording: Path, tmp_path: Path) -> None:
    inspection_report(inspect_file(recording), tmp_path / "r.html")
    page = Outline((tmp_path / "r.html").read_text("utf-8"))
    assert page.headings == ["scan.h5", "What to look at", "Scan", "Sampling", "Noise"]
    assert "kspace_encode_step_1 10 to 21" in page.text
    assert "Research use only" in page.text


def test_images_stand_in_the_order_of_their_slices(make_image: Callable[..., Image]) -> None:
    from scanside.report.reports import series_views

    images = [make_image(np.full((1, 4, 4), i, np.float32), slice=i) for i in (0, 2, 1)]
    images.append(make_image(np.zeros((1, 4, 4), np.float32), kind="phase", slice=0))
    views = series_views(images)
    assert [view.title for view in views[1, "magnitude"]] == ["slice 0", "slice 1", "slice 2"]
    assert len(views[1, "phase"]) == 1


def test_observations_keep_maps_of_the_first_slices(recording: Path) -> None:
    observed = Observations()
    replay(recording, "grappa", observe=observed)
    assert observed.n_kspaces == 2
    assert sorted(observed.coil_maps) == [0, 1]
    assert observed.maps_from == "coil-maps"
    assert observed.coil_maps[0].shape == (4, 1, 32, 32)
    assert np.abs(observed.coil_maps[0]).max() > 0


def test_empty_sections_are_left_out_and_text_is_escaped() -> None:
    page = Page(
        "a & b", sections=[Section("empty"), Section("full", [Facts([("x < y", '"z"')]), Messages([])])]
    )
    outline = Outline(page.html())
    assert outline.headings == ["a & b", "full"]
    assert "x < y" in outline.text


def test_latencies_are_bars_of_their_share() -> None:
    from scanside.report.reports import latency_section

    trace = Trace()
    trace.begin(["slow", "fast"])
    for stage, ms in (("slow", 40), ("fast", 10)):
        trace.add(stage, int(ms * 1e6))
    html = Page("t", sections=[latency_section(trace)]).html()
    assert re.findall(r'style="width: ([\d.]+)%"', html) == ["100.0", "25.0"]
