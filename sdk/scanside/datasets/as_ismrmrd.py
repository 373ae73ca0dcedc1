"""Files of data sets as ISMRMRD scans, for pipelines and for everyone else's tools."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from scanside.agreement import Comparison
from scanside.datasets.opening import dataset_of, open_scan_file
from scanside.datasets.scan_file import MeasuredSlice, Place, ScanFile
from scanside.errors import FileFormatError
from scanside.inspection import Collector, outline_of
from scanside.mrd.dtypes import ACQUISITION_HEADER
from scanside.mrd.flags import AcquisitionFlag
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts
from scanside.mrd.transfer import scan_writer
from scanside.outline import Outline

__all__ = ["obstacle_to_scan", "outline_of_file", "recording_of", "write_ismrmrd"]


def obstacle_to_scan(file: ScanFile, first: MeasuredSlice) -> str | None:
    """Why no scan can be made of a file, and thus no pipeline can take it; None where one can.

    Args:
        file: of a data set.
        first: k-space of its first image.
    """
    if not file.CARTESIAN:
        return "holds readouts that are not on a grid (sampled on ramps): no scan is made of it yet"
    if first.acquired.shape[1] != 1:
        return (
            "holds slices along its readout, and lines run through all of them: no scan can be made of it slice by "
            "slice"
        )
    return None


@contextmanager
def recording_of(path: Path) -> Iterator[Path]:
    """A file of a data set as a scan that lies there for as long as the context lasts; any other file as it is.

    Raises:
        FileFormatError: the file is damaged, or no scan can be made of it.
    """
    name = dataset_of(path)
    if name is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"{path.stem}.h5"
        with open_scan_file(path, name) as file:
            write_ismrmrd(file, made)
        yield made


def write_ismrmrd(
    file: ScanFile, output: Path, progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Write all images of a file as one scan of ISMRMRD or MRD 2, line by line.

    The header is the file's own where it has one. Otherwise it says what is known, matrix and counters: pixels then
    count as 1 mm, and directions are zero, as of a scan that does not tell them.

    Args:
        file: of a data set.
        output: the file to write, see `scanside.mrd.transfer.scan_writer`; an existing one is replaced.
        progress: told how many images are done, and how many there are.

    Raises:
        FileFormatError: the file is damaged, not on a grid, or holds slices along its readout, which have no lines.
    """
    first = file.measured(file.places[0])
    if (why := obstacle_to_scan(file, first)) is not None:
        raise FileFormatError(f"{file.path} {why}")
    n_written = 0
    with scan_writer(output, file.header or _header(file, first)) as writer:
        for done, place in enumerate(file.places, start=1):
            readouts = _readouts(file, place, n_written)
            n_written += len(readouts)
            if done == len(file.places):
                readouts.headers["flags"][-1] |= np.uint64(AcquisitionFlag.LAST_IN_MEASUREMENT)
            writer.write(readouts)
            if progress is not None:
                progress(done, len(file.places))


def outline_of_file(file: ScanFile) -> tuple[Outline | None, tuple[str, ...]]:
    """A file's scan in outline, by its first film alone, and what must be mended before any pipeline can take it.

    Args:
        file: of a data set.

    Raises:
        FileFormatError: the file is damaged.
    """
    first = file.measured(file.places[0])
    if (why := obstacle_to_scan(file, first)) is not None:
        return None, (f"the file {why}",)
    film = [place for place in file.places if _film_of(place) == _film_of(file.places[0])]
    header = MrdHeader.parse(file.header or _header(file, first))
    collector, comparison = Collector(), Comparison(header)
    n_before = 0
    for place in film:
        readouts = _readouts(file, place, n_before)
        n_before += len(readouts)
        collector.take(comparison.take(readouts))
    return outline_of(header, collector.survey(header), comparison.findings()), ()


def _film_of(place: Place) -> tuple[int, ...]:
    """The counters that tell films apart."""
    return tuple(value for name, value in place._asdict().items() if name not in ("repetition", "phase"))


def _readouts(file: ScanFile, place: Place, n_before: int) -> Readouts:
    """The lines of one image, in their order."""
    measured = file.measured(place)
    lines = np.flatnonzero(measured.acquired)
    n_coils, _, n_samples = measured.kspace.shape
    headers = np.zeros(len(lines), ACQUISITION_HEADER)
    headers["version"] = 1
    headers["scan_counter"] = n_before + 1 + np.arange(len(lines))
    headers["number_of_samples"] = n_samples
    headers["center_sample"] = n_samples // 2
    headers["available_channels"] = headers["active_channels"] = n_coils
    headers["idx"]["kspace_encode_step_1"] = lines - file.first_line
    for name, value in place._asdict().items():
        headers["idx"][name] = value
    headers["flags"][0] |= np.uint64(AcquisitionFlag.FIRST_IN_SLICE)
    headers["flags"][-1] |= np.uint64(AcquisitionFlag.LAST_IN_SLICE)
    return Readouts(headers, np.ascontiguousarray(measured.kspace[:, lines].swapaxes(0, 1)))


def _header(file: ScanFile, first: MeasuredSlice) -> bytes:
    """What is known of a scan that has no header: matrix and counters."""
    n_coils, n1, n0 = first.kspace.shape
    images = file.image_size
    limits = "".join(
        f"<{name}><minimum>0</minimum><maximum>{max(place[at] for place in file.places)}</maximum>"
        f"<center>0</center></{name}>"
        for at, name in enumerate(Place._fields)
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<acquisitionSystemInformation><receiverChannels>{n_coils}</receiverChannels></acquisitionSystemInformation>
<experimentalConditions><H1resonanceFrequency_Hz>0</H1resonanceFrequency_Hz></experimentalConditions>
<encoding>
<encodedSpace><matrixSize><x>{n0}</x><y>{n1}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{n0}</x><y>{n1}</y><z>1</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{images[1]}</x><y>{images[0]}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{images[1]}</x><y>{images[0]}</y><z>1</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{n1 - 1}</maximum><center>{n1 // 2}</center>
</kspace_encoding_step_1>{limits}</encodingLimits>
<trajectory>cartesian</trajectory>
</encoding>
</ismrmrdHeader>
""".encode()
