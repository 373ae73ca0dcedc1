"""Scans that a learned pipeline can make nothing of, from the recording to what the operator is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from scanside.context import Context
from scanside.errors import PeerReported
from scanside.items import Readouts
from scanside.mrd.flags import NOT_IMAGING, flagged
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.pipeline import Pipeline
from scanside.replay import ReplayResult, replay
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)

Change = Callable[[np.ndarray[Any, Any]], None]


@pytest.fixture
def run(learned_bundles: Path, tmp_path: Path) -> Callable[..., ReplayResult]:
    """Record a scan whose imaging samples were changed, and send it through a node with a learned pipeline."""
    pipeline = tmp_path / "learned.yaml"
    engine = {"bundle": "gradient", "backend": "eager", "sizes": [[32, 32]], "n_coils": [4]}
    stages = ["noise", "oversampling", "accumulate", "coil-maps", {"engine": engine}, "finish"]
    pipeline.write_text(yaml.safe_dump({"name": "learned", "stages": stages}), "utf-8")
    Pipeline.load(pipeline).prepare(Context("cpu"))  # engines are there before any scan
    scan = simulate(
        ScanConfig(
            geometry=GeometryConfig(matrix=(32, 32, 1), n_slices=2),
            phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
            coils=CoilConfig(n_coils=4),
            noise=NoiseConfig(std=0.002),
            sampling=SamplingConfig(acceleration=(2, 1), acs=(12, 0)),
        )
    )

    def changed(change: Change) -> Iterator[Any]:
        for item in scan.items():
            if isinstance(item, Readouts):
                imaging = ~flagged(item.headers["flags"], NOT_IMAGING)
                for i in np.flatnonzero(imaging & (item.headers["idx"]["slice"] == 1)):
                    change(item.samples[i])
            yield item

    def through(change: Change) -> ReplayResult:
        recording = tmp_path / "scan.h5"
        with Hdf5Writer(recording, scan.header_xml) as writer:
            for item in changed(change):
                writer.write(item)
        return replay(recording, pipeline, via="gadgetron", device="cpu")

    return through


def untouched(samples: np.ndarray[Any, Any]) -> None:
    """A scan as it should be."""


def silence(samples: np.ndarray[Any, Any]) -> None:
    """A receiver that was switched off."""
    samples[:] = 0


@pytest.mark.slow
def test_slice_of_zeros(run: Callable[..., ReplayResult]) -> None:
    """It gives an image of zeros that says so, and the slice before it is as ever."""
    good, bad = run(untouched).images, run(silence).images
    assert [image.header["slice"] for image in bad] == [0, 1]
    assert np.array_equal(bad[0].data.numpy(), good[0].data.numpy())
    assert good[1].data.any()
    assert "ScansideEmpty" not in good[1].meta
    assert not bad[1].data.any()
    assert "all acquired lines are zero" in bad[1].meta.first("ScansideEmpty")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_sample_that_is_no_number(run: Callable[..., ReplayResult], value: float) -> None:
    """The scan ends with an error that names the readout."""

    def spoil(samples: np.ndarray[Any, Any]) -> None:
        samples[2, 5] = value

    with pytest.raises(PeerReported, match=r"readout with scan counter \d+ .*holds NaN or infinite"):
        run(spoil)
