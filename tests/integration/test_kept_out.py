"""Readouts that are no lines of an image change nothing in it, whatever they are like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import torch

from scanside import Context, Image, Pipeline, Readouts, Scan
from scanside.execution import execute
from scanside.items import Item
from scanside.mrd.flags import NOT_IMAGING, AcquisitionFlag
from scanside.testing.small import small_readouts, small_scan

KEPT_OUT = [
    flag for flag in AcquisitionFlag if flag & NOT_IMAGING and flag != AcquisitionFlag.NOISE_MEASUREMENT
]
SURFACE = AcquisitionFlag.SURFACECOILCORRECTIONSCAN_DATA


def aside(flag: int, *, n_coils: int = 4, n_samples: int = 48) -> Readouts:
    """Readouts that are something else."""
    headers = Readouts.empty_headers(3)
    headers["flags"] = flag
    headers["active_channels"] = n_coils
    headers["number_of_samples"], headers["center_sample"] = n_samples, n_samples // 2
    headers["sample_time_us"] = 10
    samples = np.random.default_rng(4).standard_normal((3, n_coils, n_samples)) + 0j
    return Readouts(headers, 100 * samples.astype(np.complex64))


def changed(**fields: object) -> Callable[[], Readouts]:
    def make() -> Readouts:
        block = aside(SURFACE)
        for name, value in fields.items():
            (block.headers["idx"] if name in block.headers["idx"].dtype.names else block.headers)[name] = (
                value
            )
        return block

    return make


def without_numbers() -> Readouts:
    block = aside(SURFACE)
    block.samples[1, 2, 5:9] = [np.nan, np.inf, -np.inf, np.nan]
    return block


ODD = {
    "of two channels": lambda: aside(SURFACE, n_coils=2),
    "of six channels": lambda: aside(SURFACE, n_coils=6),
    "short": lambda: aside(SURFACE, n_samples=10),
    "long": lambda: aside(SURFACE, n_samples=500),
    "that are no numbers": without_numbers,
    "of another dwell time": changed(sample_time_us=3.0),
    "without dwell time": changed(sample_time_us=0.0),
    "of an encoding space that is not there": changed(encoding_space_ref=7),
    "without an echo": changed(center_sample=400),
    "all discarded": changed(discard_pre=30, discard_post=30),
    "turned round": lambda: aside(int(SURFACE | AcquisitionFlag.REVERSE), n_samples=100),
    "off the grid": changed(kspace_encode_step_1=999, kspace_encode_step_2=77, slice=5, repetition=9),
    "flagged as the last": lambda: aside(
        int(SURFACE | AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_MEASUREMENT)
    ),
    "flagged as calibration": lambda: aside(int(SURFACE | AcquisitionFlag.PARALLEL_CALIBRATION), n_coils=2),
}


def reconstruct(blocks: Sequence[Readouts], pipeline: str) -> tuple[torch.Tensor, list[str]]:
    """The one image, and what was told."""
    counter = 1
    items: list[Item] = []
    for block in blocks:
        block = block.copy()
        block.headers["scan_counter"] = counter + np.arange(len(block))
        counter += len(block)
        items.append(block)
    loaded, scan, out = _pipeline(pipeline), Scan.from_xml(small_scan().header.xml), list[Item]()
    with loaded.open(scan) as run:
        execute(run, items, out.append)
    (image,) = out
    assert isinstance(image, Image)
    return image.data, scan.warnings


@cache
def _pipeline(name: str) -> Pipeline:
    settings = {"grappa": {"grappa.kernel_k1": 2}, "sense": {"coil-maps.kernel": 4}}
    pipeline = Pipeline.load(name, settings[name])
    pipeline.prepare(Context(device="cpu"))
    return pipeline


@pytest.mark.parametrize("at", [0, 1, 3], ids=["before the noise", "before the lines", "among the lines"])
@pytest.mark.parametrize("what", ODD)
def test_odd_readouts(what: str, at: int) -> None:
    blocks = small_readouts()
    expected, told = reconstruct(blocks, "grappa")
    blocks.insert(at, ODD[what]())
    found, now_told = reconstruct(blocks, "grappa")
    assert torch.equal(found, expected)
    assert now_told == told


@pytest.mark.parametrize("flag", KEPT_OUT, ids=lambda flag: flag.name)
def test_every_kind(flag: AcquisitionFlag) -> None:
    blocks = small_readouts()
    expected, _ = reconstruct(blocks, "sense")
    blocks.insert(1, aside(flag, n_coils=2, n_samples=100))
    blocks.insert(4, aside(flag, n_samples=77))
    assert torch.equal(reconstruct(blocks, "sense")[0], expected)


def test_without_noise_readouts() -> None:
    """Nothing is whitened, and that is told once, for the lines."""
    blocks = small_readouts()[1:]
    expected, told = reconstruct(blocks, "grappa")
    found, now_told = reconstruct([aside(SURFACE, n_coils=2), *blocks], "grappa")
    assert torch.equal(found, expected)
    assert now_told == told


def test_lines_themselves_are_judged() -> None:
    """The same oddities of lines are errors."""
    blocks = small_readouts()
    blocks.insert(3, aside(0, n_coils=2))
    with pytest.raises(Exception, match="noise data have 4 channels"):
        reconstruct(blocks, "grappa")
