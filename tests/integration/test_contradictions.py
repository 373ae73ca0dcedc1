"""What contradicts the header is told, stands in the images, or is refused, whichever way a scan takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside import Context, Pipeline, Readouts, Scan
from scanside.errors import PeerReported, StageError
from scanside.execution import execute
from scanside.inspection import inspect_file
from scanside.items import Image
from scanside.mrd.flags import AcquisitionFlag as Flag
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.replay import replay
from scanside.simulate import ScanConfig, simulate

SMALL: dict[str, Any] = {
    "phantom": {"kind": "shepp-logan", "supersampling": (1, 1, 1)},
    "coils": {"n_coils": 4},
    "geometry": {"matrix": (32, 32, 1)},
    "noise": {"readouts": 8},
}
MULTIBAND = (
    "<parallelImaging><accelerationFactor><kspace_encoding_step_1>1</kspace_encoding_step_1>"
    "<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
    "<multiband><spacing><dZ>0</dZ><dZ>20</dZ></spacing><deltaKz>3.14</deltaKz><multiband_factor>2</multiband_factor>"
    "<calibration>separable2D</calibration><calibration_encoding>0</calibration_encoding></multiband></parallelImaging>"
)


def scan_of(**settings: Any) -> tuple[str, list[Readouts]]:
    scan = simulate(ScanConfig.model_validate(SMALL | settings))
    return scan.header_xml.decode(), [item.copy() for item in scan.items() if isinstance(item, Readouts)]


def images(
    xml: str, blocks: Iterable[Readouts], settings: dict[str, Any] | None = None
) -> tuple[list[Image], Scan]:
    pipeline = Pipeline.load("fft", settings)
    pipeline.prepare(Context(device="cpu"))
    scan, out = Scan.from_xml(xml), []
    with pipeline.open(scan) as run:
        execute(run, blocks, out.append)
    return [item for item in out if isinstance(item, Image)], scan


def spokes(blocks: list[Readouts]) -> list[Readouts]:
    """The lines as if they were spokes, with their trajectory."""
    *before, lines = blocks
    n_samples = lines.samples.shape[2]
    angle = np.pi * np.arange(len(lines))[:, None] / len(lines)
    along = np.linspace(-0.5, 0.5, n_samples, endpoint=False)
    trajectory = np.stack([along * np.cos(angle), along * np.sin(angle)], axis=-1).astype(np.float32)
    lines.headers["trajectory_dimensions"] = 2
    return [*before, Readouts(lines.headers, lines.samples, trajectory)]


def test_sound_scan_is_silent() -> None:
    (image,), scan = images(*scan_of())
    assert scan.findings == []
    assert "ScansideWarning" not in image.meta


@pytest.mark.parametrize("kind", ["multiband", "spokes"])
def test_what_gives_no_right_image_is_refused(kind: str) -> None:
    xml, blocks = scan_of()
    if kind == "multiband":
        xml, said = xml.replace("</trajectory>", "</trajectory>" + MULTIBAND), "multiband factor 2"
    else:
        blocks, said = spokes(blocks), "no parallel lines"
    with pytest.raises(StageError, match=rf"'accumulate'.*{said}.*accumulate.contradictions = 'mark'"):
        images(xml, blocks)
    (image,), scan = images(xml, blocks, {"accumulate.contradictions": "mark"})
    assert [finding.level for finding in scan.findings] == ["error"]
    assert said in image.meta.first("ScansideWarning")


def test_noise_scan_under_such_a_header_is_taken() -> None:
    """Its covariance is as good as any; there is no image that could be wrong."""
    xml, blocks = scan_of()
    found, _ = images(xml.replace("</trajectory>", "</trajectory>" + MULTIBAND), blocks[:1])
    assert found == []


@pytest.mark.parametrize("trajectory", ["cartesian", "epi"])
def test_echo_planar_readouts(trajectory: str) -> None:
    xml, blocks = scan_of(sampling={"reverse": "alternate"})
    (image,), scan = images(xml.replace("<trajectory>cartesian<", f"<trajectory>{trajectory}<"), blocks)
    assert len(scan.warnings) == 1
    assert "ghosts and ramp sampling are not corrected" in image.meta.first("ScansideWarning")


@pytest.mark.parametrize("partial_echo", [1.0, 0.75])
def test_echo_of_reversed_readouts_by_standard_and_by_habit(partial_echo: float) -> None:
    """Both give the image of the same lines read forwards; the habit is told."""
    noise = {"scan": "none", "std": 0.0}
    (truth,), _ = images(*scan_of(noise=noise, sampling={"partial_echo": partial_echo}))
    xml, blocks = scan_of(noise=noise, sampling={"reverse": "alternate", "partial_echo": partial_echo})
    (standard,), told = images(xml, blocks)
    assert not [text for text in told.warnings if "center_sample" in text]
    for block in blocks:
        block.headers["center_sample"] = block.headers["center_sample"][0]
    (habit,), told = images(xml, blocks)
    assert len([text for text in told.warnings if "center_sample" in text]) == 1
    for image in (standard, habit):
        np.testing.assert_allclose(image.data, truth.data, atol=1e-4 * float(truth.data.max()))


def test_averages_that_are_not_announced() -> None:
    xml, blocks = scan_of(dynamics={"averages": 3})
    first, last = (np.uint64(int(flag)) for flag in (Flag.FIRST_IN_SLICE, Flag.LAST_IN_SLICE))
    for block in blocks[1:]:
        counters = block.headers["idx"]["kspace_encode_step_1"]
        block.headers["flags"][counters == 0] |= first
        block.headers["flags"][counters == 31] |= last
    (image,), scan = images(xml, blocks)
    assert scan.warnings == []
    start, end = xml.index("<average>"), xml.index("</average>") + len("</average>")
    found, _ = images(xml[:start] + xml[end:], blocks)
    assert len(found) == 3
    for image in found[1:]:  # of the first, nobody can know
        assert "average runs from 0 to" in image.meta.first("ScansideWarning")


def test_centre_of_the_header() -> None:
    xml, blocks = scan_of(sampling={"partial_fourier": (0.75, 1.0)})
    (image,), scan = images(xml.replace("<center>8</center>", "<center>16</center>"), blocks)
    assert ["strongest at 8" in text for text in scan.warnings] == [True]
    assert "strongest at 8" in image.meta.first("ScansideWarning")


@pytest.fixture
def multiband_file(tmp_path: Path) -> Path:
    xml, blocks = scan_of()
    xml = xml.replace("</trajectory>", "</trajectory>" + MULTIBAND)
    with Hdf5Writer(tmp_path / "scan.h5", xml.encode()) as writer:
        for block in blocks:
            writer.write(block)
    return tmp_path / "scan.h5"


@pytest.mark.parametrize("via", ["direct", "gadgetron", "mrd"])
def test_every_way_says_the_same(multiband_file: Path, via: Any) -> None:
    (finding,) = inspect_file(multiband_file).findings
    with pytest.raises((StageError, PeerReported)) as raised:
        replay(multiband_file, "fft", via=via)
    assert finding.text in str(raised.value)


def test_cuts_do_not_matter() -> None:
    """The same headers reach the stages, so that the images are the same."""
    xml, blocks = scan_of(sampling={"reverse": "alternate", "partial_echo": 0.75})
    for block in blocks[1:]:
        block.headers["center_sample"] = 16
    (whole,), _ = images(xml, blocks)
    single = [block.select(slice(i, i + 1)) for block in blocks for i in range(len(block))]
    (cut,), _ = images(xml, single)
    np.testing.assert_allclose(cut.data, whole.data, atol=1e-5 * float(whole.data.max()))
