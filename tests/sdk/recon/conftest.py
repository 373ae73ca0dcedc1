"""What tests of reconstruction blocks share: recorded scans and recorded results."""

from __future__ import annotations

import lzma
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from scanside.recon.noise import noise_covariance, whitening_matrix


@dataclass(frozen=True)
class SkyraScan:
    """The real scan as the tests of building blocks need it: noise, lines and what places them."""

    noise: npt.NDArray[np.complex64]  # (1, coil, sample)
    lines: npt.NDArray[np.complex64]  # (line, coil, sample)
    rows: npt.NDArray[np.int64]  # (line,) on the encoded grid of 144
    whitening: npt.NDArray[np.complex128]  # (coil, coil)


@pytest.fixture(scope="session")
def skyra(shared_data: Path) -> SkyraScan:
    with h5py.File(shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.h5") as file:
        table = file["dataset/data"][:]
    samples = np.stack([data.view(np.complex64).reshape(14, 384) for data in table["data"]])
    head = table["head"]
    return SkyraScan(
        noise=samples[:1],
        lines=samples[1:],
        rows=head["idx"]["kspace_encode_step_1"][1:].astype(np.int64) - 54 + 72,
        whitening=whitening_matrix(
            noise_covariance(samples[:1]),
            noise_dwell_us=float(head["sample_time_us"][0]),
            dwell_us=float(head["sample_time_us"][1]),
            receiver_bandwidth_ratio=0.793,
        ),
    )


@pytest.fixture(scope="session")
def recorded_array(shared_data: Path) -> Callable[[str, tuple[int, ...]], npt.NDArray[np.complex64]]:
    """Complex arrays out of recorded Gadgetron streams, found by their stored shape (fastest axis first)."""

    def find(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.complex64]:
        stream = lzma.decompress((shared_data / "gadgetron-captures" / f"{name}.bin.xz").read_bytes())
        stored_shape = struct.pack(f"<{len(shape) + 1}Q", len(shape), *shape)
        assert stream.count(stored_shape) == 1
        start = stream.index(stored_shape) + len(stored_shape)
        return np.frombuffer(stream, np.complex64, int(np.prod(shape)), start).reshape(shape[::-1])

    return find


@pytest.fixture(scope="session")
def gadgetron_image(shared_data: Path) -> npt.NDArray[np.float64]:
    """The final image ``(y, x)`` that Gadgetron made of the real scan."""
    with h5py.File(shared_data / "scanner-ismrmrd" / "skyra_grappa_r3.gadgetron-4.7.2.h5") as file:
        image: npt.NDArray[np.float64] = file["img/image_1/data"][0, 0, 0].astype(np.float64)
    return image


class Bart:
    """BART's command line on arrays.

    BART's axes are x, y, z, coil in Fortran order, which in memory is our ``(coil, z, y, x)``.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder

    def __call__(self, *words: str | npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
        """Run one tool with words and input arrays ``(coil, z, y, x)``; returns its one output likewise."""
        return self.sets(*words)[0]

    def sets(self, *words: str | npt.NDArray[np.complex64]) -> npt.NDArray[np.complex64]:
        """The same of sets of maps, or of images: arrays may be ``(set, coil, z, y, x)``, and so may the output."""
        arguments = []
        for i, word in enumerate(words):
            if isinstance(word, str):
                arguments.append(word)
            else:
                arguments.append(f"in{i}")
                write_cfl(self._folder / f"in{i}", word)
        subprocess.run(
            [self._program, *arguments, "out"], cwd=self._folder, check=True, capture_output=True, timeout=300
        )
        return read_cfl(self._folder / "out")


def read_cfl(path: Path) -> npt.NDArray[np.complex64]:
    """A BART array ``x, y, z, coil, set`` as ``(set, coil, z, y, x)``; there is one set, mostly."""
    shape = [int(n) for n in path.with_suffix(".hdr").read_text().splitlines()[1].split()]
    shape += [1] * (4 - len(shape))
    return np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(-1, *shape[3::-1])


def write_cfl(path: Path, array: npt.NDArray[np.complex64]) -> None:
    """``(*set, coil, z, y, x)`` as a BART array."""
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{' '.join(str(n) for n in array.shape[::-1])}\n")
    array.astype(np.complex64).tofile(path.with_suffix(".cfl"))


@pytest.fixture
def run_bart(bart: str, tmp_path: Path) -> Bart:
    """BART on arrays ``(coil, z, y, x)``."""
    return Bart(bart, tmp_path)


@pytest.fixture(scope="session")
def brain(shared_data: Path) -> npt.NDArray[np.complex64]:
    """Fully sampled 8-coil k-space ``(coil, k2, k1, k0)`` of a slice, largest coil image magnitude about 1."""
    (stored,) = read_cfl(
        shared_data / "brain-8ch" / "full"
    )  # (coil, k1, k0, 1): the file has the slice first
    kspace = np.ascontiguousarray(stored.squeeze(-1)[:, None])
    image = np.fft.ifft2(kspace, norm="ortho")
    return kspace / np.abs(image).max()
