"""Recorded scans as BART's k-space, for its commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scanside.context import Context
from scanside.datasets.bart import BART_DIMENSIONS, COIL, N_DIMENSIONS
from scanside.datasets.bart_files import create_cfl, header_beside, pair_of
from scanside.errors import FileFormatError
from scanside.items import Item, KSpace, Readouts
from scanside.mrd.files import open_recording
from scanside.mrd.flags import NOT_IMAGING, flagged
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd
from scanside.stages.accumulate import Accumulate

__all__ = ["recording_as_bart"]


def recording_as_bart(
    source: Path,
    output: Path,
    group: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> tuple[int, list[str]]:
    """Write the lines of a Cartesian scan in their places; what was not acquired is 0.

    The array is ``(k0, k1, k2, coil)`` on the encoded matrix, the readout's oversampling included, and the counters
    lie in the dimensions that `BART_DIMENSIONS` has for them, counted from the first that there is. Lines are placed
    by the stage `Accumulate`, which averages those that were acquired more than once; averages stay apart. Left out
    are noise, navigators and other readouts that are no lines of an image, and calibration lines that the header
    calls separate. The header lies beside as ``NAME.xml``; what only the readouts' headers say, such as the place of
    each slice, is in neither.

    Args:
        source: ISMRMRD HDF5 file, or ISMRMRD or MRD 2 stream.
        output: name of both files, or of one of them; existing ones are replaced.
        group: of an HDF5 file.
        progress: told how many images are done, and how many there are as far as that is known.

    Returns:
        The number of images, and what an operator should know of them.

    Raises:
        FileFormatError: the scan is not on a grid, has lines of several encoding spaces, or has none.
        ScansideError: as the stage `Accumulate` and `open_recording`.
    """
    first, last = _counters(source, group)
    done = 0
    with open_recording(source, group) as recording:
        scan = Scan.from_xml(recording.header_xml)
        header_beside(output).unlink(missing_ok=True)
        written: np.memmap[Any, np.dtype[np.complex64]] | None = None
        try:
            for kspace in _placed(scan, recording.items()):
                if kspace.encoding.index != 0 or kspace.encoding.trajectory != "cartesian":
                    raise FileFormatError(
                        f"{source} holds {kspace.encoding.trajectory} lines of encoding space "
                        f"{kspace.encoding.index}: BART's k-space is made of Cartesian lines of the first one"
                    )
                if written is None:
                    shape = [*reversed(kspace.data.shape), *(1,) * (N_DIMENSIONS - COIL - 1)]
                    for name, dim in BART_DIMENSIONS.items():
                        shape[dim] = 1 + last[name] - first[name]
                    written = create_cfl(output, tuple(shape))
                index: list[int | slice] = [slice(None)] * (COIL + 1) + [0] * (N_DIMENSIONS - COIL - 1)
                for name, dim in BART_DIMENSIONS.items():
                    index[dim] = kspace.counters[name] - first[name]
                written[tuple(index)] = kspace.data.numpy().T
                done += 1
                if progress is not None:
                    progress(done, None)
            if written is None:
                raise FileFormatError(f"{source} holds no lines of images")
            written.flush()
            header_beside(output).write_bytes(recording.header_xml)
        except BaseException:
            for part in pair_of(output):
                part.unlink(missing_ok=True)
            raise
    return done, scan.warnings


def _placed(scan: Scan, items: Iterable[Item | object]) -> Iterator[KSpace]:
    pipeline = Pipeline([Accumulate(averages="separate", readout_grid="encoded")], name="to BART")
    pipeline.prepare(Context(device="cpu"))
    with pipeline.open(scan) as run:
        for item in items:
            if isinstance(item, Readouts):
                yield from (one for one in run.push(item) if isinstance(one, KSpace))
        yield from (one for one in run.finish(ScanEnd()) if isinstance(one, KSpace))


def _counters(source: Path, group: str | None) -> tuple[dict[str, int], dict[str, int]]:
    """The least and the largest of each counter of the lines of a scan, which is read for it."""
    first = dict.fromkeys(BART_DIMENSIONS, np.iinfo(np.int32).max)
    last = dict.fromkeys(BART_DIMENSIONS, 0)
    with open_recording(source, group) as recording:
        for item in recording.items():
            if not isinstance(item, Readouts):
                continue
            idx = item.headers["idx"][~flagged(item.headers["flags"], NOT_IMAGING)]
            for name in BART_DIMENSIONS if len(idx) else ():
                first[name] = min(first[name], int(idx[name].min()))
                last[name] = max(last[name], int(idx[name].max()))
    return first, last
