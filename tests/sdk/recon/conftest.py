"""What tests of reconstruction blocks share: recorded scans and recorded results."""

from __future__ import annotations

import lzma
import struct
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
