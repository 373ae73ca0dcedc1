"""What is known of the files of a data set: each is opened once, however many parts and runs of a process ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from scanside.datasets import Place, ScanFile
from scanside.errors import FileFormatError

__all__ = ["KnownFile", "What", "known_file"]

What = Literal["images", "kspace", "films"]
"""What is read of measured scans: the images that come with them, their k-space, or films reconstructed from it."""

Stamp = tuple[int, int]


@dataclass(frozen=True, eq=False)
class KnownFile:
    """A file, as it was when it was looked into.

    Attributes:
        path: the file.
        stamp: its size, and its time of change in ns.
        subject: whose it is.
        facts: what it says of itself.
        places: its images.
        image_size: (k1, k0) of the images that the data set compares.
        shape: (coil, k1, k0) of their k-space.
        planes: whether samples are acquired one by one along k1 and k0, rather than in whole lines.
        problem: why it cannot be trained on; None where it can.
    """

    path: Path
    stamp: Stamp
    subject: str
    facts: Mapping[str, str]
    places: Sequence[Place]
    image_size: tuple[int, int]
    shape: tuple[int, int, int]
    planes: bool
    problem: str | None

    def check_unchanged(self) -> None:
        """Refuse a file that is another by now.

        Raises:
            FileFormatError: its size or time of change differs, or it is gone.
        """
        try:
            now = _stamp(self.path)
        except OSError as error:
            raise FileFormatError(
                f"{self.path} was there when the run began, and cannot be read now ({error.strerror}): put it back, "
                "and go on with --resume"
            ) from error
        if now != self.stamp:
            raise FileFormatError(
                f"{self.path} was changed while it was in use ({self.stamp[0]} bytes when the run began, {now[0]} "
                "now, or another time of change), so that samples would come from two files: begin again"
            )


_known: dict[tuple[Path, str, What], KnownFile] = {}
"""By file, name of the data set, and what is read."""


def known_file(path: Path, reader: type[ScanFile], what: What) -> KnownFile:
    """Look into a file, unless that was done and it is the same still.

    Args:
        path: the file.
        reader: of its data set.
        what: what is to be read of it.

    Raises:
        FileFormatError: the file breaks a rule of its data set.
    """
    key, stamp = (path, reader.FORMAT, what), _stamp(path)
    found = _known.get(key)
    if found is None or found.stamp != stamp:
        with reader(path) as file:
            acquired = file.acquired(file.places[len(file.places) // 2])
            found = KnownFile(
                path,
                stamp,
                file.subject,
                dict(file.facts),
                tuple(file.places),
                file.image_size,
                file.shape,
                acquired.shape[1] > 1,
                _no_image(file) if what == "images" else _no_truth(acquired),
            )
        _known[key] = found
    return found


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _no_image(file: ScanFile) -> str | None:
    if file.reference(file.places[0]) is not None:
        return None
    return "holds no image, as files of a test do: leave it out, or train on k-space (what: kspace)"


def _no_truth(acquired: npt.NDArray[np.bool_]) -> str | None:
    """What is missing of an image's k-space; None where nothing is between the samples that were acquired."""
    if all(_is_one_run(line) for line in (*acquired, *acquired.T)) and acquired.any():
        return None
    of = "lines" if acquired.shape[1] == 1 else "samples"
    return (
        f"is undersampled ({int(acquired.sum())} of {acquired.size} {of}, with gaps): truth can only be had from "
        "complete scans; leave it out"
    )


def _is_one_run(line: npt.NDArray[np.bool_]) -> bool:
    """Whether samples lie side by side; also where there are none."""
    at = np.flatnonzero(line)
    return not len(at) or len(at) == np.ptp(at) + 1
