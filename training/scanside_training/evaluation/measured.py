"""Measured, fully sampled scans that are undersampled afterwards: BART's files and ISMRMRD files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field

from scanside.errors import ConfigError, FileFormatError, FormatError
from scanside.items import Item, KSpace
from scanside.metrics import Real, object_mask
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.pipeline import Pipeline
from scanside.recon.combine import combine_with_maps, root_sum_of_squares
from scanside.recon.espirit import espirit
from scanside.recon.fourier import to_image
from scanside.replay import replay
from scanside.scratch import ScratchFolder
from scanside.simulate import CoilConfig, GeometryConfig, GivenScan, NoiseConfig, SamplingConfig, ScanConfig
from scanside_training.data.folders import recording_digest
from scanside_training.data.roots import data_file
from scanside_training.data.sampling import MaskConfig, random_mask
from scanside_training.data.settings import Settings
from scanside_training.evaluation.bart_files import read_cfl
from scanside_training.evaluation.case import Case, Recorded
from scanside_training.evaluation.problem import Problem

__all__ = ["CflData", "MeasuredCases", "MrdData", "accumulated", "scan_of", "written"]

_STAGES = ["noise", "oversampling", "accumulate", "fourier", "finish"]


class _Scan(NamedTuple):
    """One fully sampled slice: k-space ``(coil, k1, k0)``, whose it is, and where it was read."""

    kspace: torch.Tensor
    name: str
    subject: str
    path: Path
    slice: int
    number: int


class _Truth(NamedTuple):
    """References of a slice, ``(y, x)``: over the whole image, and inside the object."""

    whole: Real
    inside: Real


class _MeasuredData(Settings):
    root: Path | None = None
    """Folder that the files' names are relative to; by default ``$SCANSIDE_DATA``, or ``../shared/data``."""
    masks: dict[str, Path | Annotated[MaskConfig, Field()]] = Field(min_length=1)
    """By name: a ``.npy`` file with one value for each line k1, not 0 where it is kept; or what to draw."""
    seed: int = Field(default=0, ge=0)
    """Of the masks that are drawn: each slice has its own."""

    def mask(self, name: str, n: int, number: int) -> torch.Tensor:
        """``(n,)`` bool, the lines that are kept of the scan with some number.

        Raises:
            ConfigError: there is no such file.
            FormatError: a file holds a mask of another size.
        """
        chosen = self.masks[name]
        if isinstance(chosen, MaskConfig):
            place = list(self.masks).index(name)
            return torch.from_numpy(
                random_mask(chosen, n, np.random.default_rng([self.seed, place, number]))[0]
            )
        path = data_file(self.root, str(chosen))
        values = np.load(path, allow_pickle=False)
        if values.shape != (n,):
            raise FormatError(f"{path} has the shape {values.shape}, and the scan has {n} lines k1")
        return torch.from_numpy(values != 0)


class CflData(_MeasuredData):
    """One slice of fully sampled multi-coil k-space in BART's format. Pipelines get it as an ISMRMRD file that is
    written for them, without noise scan and readout oversampling.
    """

    kind: Literal["cfl"] = "cfl"
    kspace: Path
    """The files' name; dimensions (k0, k1, 1, coil) or (1, k0, k1, coil)."""

    def open(self) -> MeasuredCases:
        """The cases.

        Raises:
            ConfigError: a file is not there.
            FormatError: it is not what it should be.
        """
        path = data_file(self.root, str(self.kspace.with_suffix(".cfl")))
        values = read_cfl(path)
        if values.ndim != 4 or 1 not in values.shape[:3]:
            raise FormatError(
                f"{path}: expected one slice, (k0, k1, 1, coil) or (1, k0, k1, coil), got dimensions {values.shape}"
            )
        flat = values.squeeze(max(axis for axis in range(3) if values.shape[axis] == 1))
        kspace = torch.from_numpy(np.ascontiguousarray(flat.transpose(2, 1, 0)))
        return MeasuredCases(self, [_Scan(kspace, path.parent.name, path.parent.name, path, 0, 0)])

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.kspace}, undersampled by {', '.join(self.masks)}"


class MrdData(_MeasuredData):
    """Fully sampled 2-D Cartesian ISMRMRD files."""

    kind: Literal["mrd"] = "mrd"
    files: dict[str, Path] = Field(min_length=1)
    """The file of each subject."""

    def open(self) -> MeasuredCases:
        """The cases; files are read here.

        Raises:
            ConfigError: a file is not there.
            FileFormatError: a scan is undersampled or 3-D.
            ScansideError: a scan cannot be read.
        """
        scans = []
        for subject in self.files:
            scans += _read_slices(self.path(subject), subject)
        return MeasuredCases(self, scans)

    def open_file(self, subject: str, first: int) -> MeasuredCases:
        """The cases of one file only.

        Args:
            subject: whose.
            first: how many slices the files before it hold.

        Raises:
            ScansideError: as `open`.
        """
        return MeasuredCases(self, _read_slices(self.path(subject), subject), first)

    def path(self, subject: str) -> Path:
        """A subject's file.

        Raises:
            ConfigError: it is not there.
        """
        return data_file(self.root, str(self.files[subject]))

    @property
    def title(self) -> str:
        """In words."""
        return f"{', '.join(map(str, self.files.values()))}, undersampled by {', '.join(self.masks)}"


class MeasuredCases:
    """Every slice with every mask.

    The reference over the whole image is the root sum of squares of the full data, inside the object it is the full
    data combined with ESPIRiT maps of the full data.

    Args:
        config: names of the masks, and how they are made.
        scans: fully sampled slices.
        first: number of the first of them, where they are not all; drawn masks depend on it.
    """

    def __init__(self, config: _MeasuredData, scans: list[_Scan], first: int = 0) -> None:
        self._config = config
        self._scans = scans
        self._first = first
        self._last_truth: tuple[int, _Truth] | None = None
        self._folder: ScratchFolder | None = None

    def __len__(self) -> int:
        return len(self._scans) * len(self._config.masks)

    def __iter__(self) -> Iterator[Case]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> Case:
        place, which = divmod(number, len(self._config.masks))
        name = list(self._config.masks)[which]
        scan, truth = self._scans[place], self._truth(place)
        n_coils, n_lines = scan.kspace.shape[:2]
        mask = self._config.mask(name, n_lines, self._first + place)
        problem = Problem.from_kspace(scan.kspace, mask)
        strata: Mapping[str, str] = {
            "mask": name,
            "acceleration": f"{n_lines / max(int(mask.sum()), 1):.1f}",
            "subject": scan.subject,
            "n_coils": str(n_coils),
        }
        return Case(
            name=f"{scan.name}-{name}",
            strata=strata,
            whole=truth.whole,
            inside=truth.inside,
            roi=object_mask(truth.inside),
            problem=problem,
            identities=_digests(scan.path) if isinstance(self._config, MrdData) else frozenset(),
            recorded=Recorded(self._recording(place), mask.numpy(), scan.slice, scan.number),
            conditions=problem.conditions,
            volume=f"{scan.subject}-{name}" + (f"-{scan.number}" if scan.number else ""),
        )

    def _recording(self, place: int) -> Path:
        """The ISMRMRD file that holds a slice."""
        scan = self._scans[place]
        if isinstance(self._config, MrdData):
            return scan.path
        self._folder = self._folder or ScratchFolder("scanside-evaluation-")
        path = self._folder.path / f"{place}.h5"
        return path if path.exists() else written(scan_of(scan.kspace), path)

    def _truth(self, place: int) -> _Truth:
        """The references of a slice; those of the last one are kept for its other masks."""
        if self._last_truth is None or self._last_truth[0] != place:
            kspace = self._scans[place].kspace[:, None]
            images = to_image(kspace, (-2, -1))
            maps = espirit(kspace, (1, kspace.shape[-2], kspace.shape[-1]))
            whole = root_sum_of_squares(images)[0].double().numpy()
            inside = combine_with_maps(images, maps)[0].abs().double().numpy()
            self._last_truth = place, _Truth(whole, inside)
        return self._last_truth[1]


@cache
def _digests(path: Path) -> frozenset[str]:
    return frozenset({recording_digest(path)})


def written(scan: GivenScan, path: Path) -> Path:
    """Write a scan as an ISMRMRD file."""
    with Hdf5Writer(path, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
    return path


def scan_of(kspace: torch.Tensor, noise: float | None = None) -> GivenScan:
    """A scan of ``(coil, k1, k0)``, with pixels of 1 mm and no noise but its own.

    Args:
        kspace: of one slice.
        noise: standard deviation of noise readouts, the same in all coils; None for a scan without them.
    """
    n_coils, n1, n0 = kspace.shape
    measured = NoiseConfig(std=noise, neighbour_correlation=0, spread=0, readouts=64) if noise else None
    config = ScanConfig(
        coils=CoilConfig(n_coils=n_coils),
        noise=measured or NoiseConfig(std=0, scan="none"),
        sampling=SamplingConfig(oversampling=1),
        geometry=GeometryConfig(matrix=(n0, n1, 1), fov_mm=(n0, n1, 5)),
    )
    return GivenScan(config, kspace[:, None].numpy(), noisy=False)


def accumulated(path: Path) -> list[KSpace]:
    """The k-space of all images of an ISMRMRD file, whitened, without oversampling.

    Raises:
        ScansideError: the scan cannot be read.
    """
    found: list[KSpace] = []

    def take(label: str, item: Item) -> None:
        if label == "accumulate" and isinstance(item, KSpace):
            found.append(item)

    pipeline = Pipeline.from_config({"name": "full-kspace", "stages": _STAGES})
    replay(path, pipeline, device="cpu", threads=False, observe=take)
    return found


def _read_slices(path: Path, subject: str) -> list[_Scan]:
    """All slices of an ISMRMRD file."""
    scans: list[_Scan] = []
    for item in accumulated(path):
        if item.data.shape[-3] != 1 or not bool(item.mask.all()):
            raise FileFormatError(
                f"{path} is no fully sampled 2-D scan ({int((~item.mask).sum())} of {item.mask.numel()} lines are "
                "missing): there is no truth to compare with"
            )
        number = int(item.counters.get("slice", 0))
        flat = item.data.reshape(-1, *item.data.shape[-4:])[:, :, 0]
        for kspace in flat:
            index = sum(scan.slice == number for scan in scans)
            name = f"{subject}-slice{number:02d}" + (f"-{index}" if index else "")
            scans.append(_Scan(kspace.cpu().clone(), name, subject, path, number, index))

    if not scans:
        raise ConfigError(f"{path} holds no image: leave it out")
    return scans
