"""Small simulated scans in files, and files with a defect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.readouts import Readouts
from scanside.simulate import (
    CoilConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)

Edit = Callable[[list[Readouts]], None]
MakeScan = Callable[..., Path]

SMALL = ScanConfig(
    phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
    coils=CoilConfig(n_coils=4),
    noise=NoiseConfig(readouts=8),
    sampling=SamplingConfig(acceleration=(2, 1), acs=(12, 0)),
    geometry=GeometryConfig(matrix=(32, 32, 1), n_slices=2),
)


@pytest.fixture
def make_scan(tmp_path: Path) -> MakeScan:
    """Writes a simulated scan, after an edit of its blocks of readouts or of its header."""

    def make(
        config: ScanConfig = SMALL,
        edit: Edit | None = None,
        header: Callable[[bytes], bytes] = lambda xml: xml,
    ) -> Path:
        scan = simulate(config)
        blocks = [item.copy() for item in scan.items() if isinstance(item, Readouts)]
        if edit is not None:
            edit(blocks)
        path = tmp_path / "scan.h5"
        with Hdf5Writer(path, header(scan.header_xml)) as writer:
            for block in blocks:
                writer.write(block)
        return path

    return make
