"""Files of data sets as BART's k-space, for its commands.

Each image is ``(k0, k1, 1, coil)``, and the counters lie in the dimensions that `BART_DIMENSIONS` has for them, so
that ``bart fft -iu 3`` and ``bart rss 8`` make the images.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scanside.datasets.bart import BART_DIMENSIONS, COIL, N_DIMENSIONS
from scanside.datasets.bart_files import create_cfl, header_beside, pair_of
from scanside.datasets.scan_file import Place, ScanFile
from scanside.errors import FileFormatError
from scanside.mrd.header import MrdHeader

__all__ = ["write_bart"]


def write_bart(
    file: ScanFile, output: Path, progress: Callable[[int, int | None], None] | None = None
) -> None:
    """Write all images of a file; what was not acquired is 0.

    A header whose matrix is that of the array lies beside as ``NAME.xml``.

    Volumes that are given along their readout become slices, k0 and k1 being both phase encodings.

    Args:
        file: of a data set.
        output: name of both files, or of one of them; existing ones are replaced.
        progress: told how many images are done, and how many there are.

    Raises:
        FileFormatError: the file is damaged, not on a grid, or its images differ in size.
    """
    if not file.CARTESIAN:
        raise FileFormatError(
            f"{file.path} holds readouts that are not on a grid (sampled on ramps), and BART's Fourier transform "
            "would make no images of them"
        )
    n_coils, n1, n0 = file.measured(file.places[0]).kspace.shape
    shape = [1] * N_DIMENSIONS
    shape[:4] = n0, n1, 1, n_coils
    # A file of one repetition of several is that repetition alone.
    first = Place(*(min(place[at] for place in file.places) for at in range(len(Place._fields))))
    for name, dim in BART_DIMENSIONS.items():
        shape[dim] = 1 + max(getattr(place, name) for place in file.places) - getattr(first, name)
    header_beside(output).unlink(missing_ok=True)
    try:
        written = create_cfl(output, tuple(shape))
        for done, place in enumerate(file.places, start=1):
            kspace = file.measured(place).kspace
            if kspace.shape != (n_coils, n1, n0):
                raise FileFormatError(
                    f"{file.path}: {place} has the shape {kspace.shape}, and the first image {(n_coils, n1, n0)}: "
                    "they do not fit into one array"
                )
            index: list[int | slice] = [slice(None), slice(None), 0, slice(None)]
            index += [0] * (N_DIMENSIONS - COIL - 1)
            for name, dim in BART_DIMENSIONS.items():
                index[dim] = getattr(place, name) - getattr(first, name)
            written[tuple(index)] = kspace.T
            if progress is not None:
                progress(done, len(file.places))
        written.flush()
        if file.header is not None and MrdHeader.parse(file.header).encoding(0).encoded.matrix[:2] == (
            n0,
            n1,
        ):
            header_beside(output).write_bytes(file.header)
    except BaseException:
        for part in pair_of(output):
            part.unlink(missing_ok=True)
        raise
