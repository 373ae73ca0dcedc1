"""From an object and coils to k-space: the physics of the simulation.

The object is sampled on a grid finer than the image (`PhantomConfig.supersampling`) over the encoded field of view,
weighted with the coil maps, and transformed to the points of k-space that the scan encodes. Its k-space is thus not
that of an image of the reconstructed resolution: edges ring, and small structures are lost, as in a scanner.

What lies outside the encoded field of view gives no signal, as if it were saturated, unless the configuration says
that it folds in along phase and partition encoding (`PhantomConfig.saturated`).

Transforms are separable and done as matrix products: they need no power of two, only the part of the grid that the
object's box covers takes part, and the same few lines serve 2-D and 3-D.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from scanside.errors import MissingExtra
from scanside.simulate.coils import CoilArray
from scanside.simulate.config import PhantomConfig
from scanside.simulate.geometry import ScanGrid, grid_coordinates
from scanside.simulate.off_resonance import TimeSegments, field_hz
from scanside.simulate.phantoms import ObjectState, Phantom
from scanside.simulate.sampling import Band

__all__ = ["Frame", "Signal"]

_CACHE_BYTES = 1 << 30
_PLANES_AT_ONCE = 16


@dataclass(frozen=True)
class Frame:
    """What is seen by one image of a scan.

    Attributes:
        slice: which slice or slab.
        set: which set; every set adds to the object's phase.
        state: state of the object.
    """

    slice: int
    set: int
    state: ObjectState


class Signal:
    """Noise-free k-space and truth of a scan.

    Args:
        config: supersampling and phase of the object.
        phantom: the object.
        coils: the receive array.
        grid: where the scan looks.
        bands: bands along (k1, k2), whose resolution the truth has.
        round_axes: how many axes, x first, are sampled within a disc or ball of k-space, whose resolution the truth
            has then; 0 of lines of a grid.
    """

    def __init__(
        self,
        config: PhantomConfig,
        phantom: Phantom,
        coils: CoilArray,
        grid: ScanGrid,
        bands: tuple[Band, Band],
        round_axes: int = 0,
    ) -> None:
        self._config = config
        self._phantom = phantom
        self._coils = coils
        self._grid = grid
        self._bands = bands
        self._round_axes = round_axes
        self._kspaces = _Cache(_CACHE_BYTES)
        self._objects = _Cache(_CACHE_BYTES // 4)
        self._hybrids = _Cache(_CACHE_BYTES // 4)

    def kspace(self, frame: Frame) -> npt.NDArray[np.complex64]:
        """Noise-free k-space ``(coil, k2, k1, k0)`` of the encoded matrix.

        Scaled such that a centred orthonormal inverse Fourier transform gives the object's intensities times the
        coil maps.
        """
        return self._kspaces.get(frame, lambda: self._transform(frame))

    def samples(
        self, frame: Frame, points: npt.NDArray[np.float64], times_s: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.complex64]:
        """Noise-free samples ``(coil, *points)`` anywhere in k-space.

        Scaled such that the samples of a full grid are those of an orthonormal transform of the image's matrix.

        Args:
            frame: what is seen.
            points: ``(*points, 3)`` along (x, y, z) in cycles per voxel of the encoded space.
            times_s: ``(sample)`` of the points' last axis, over which off-resonance turns the phase.

        Raises:
            ConfigError: it turns very often.
            MissingExtra: finufft is not installed.
        """
        volume, fine = self._object(frame), self._fine_axes(frame.slice)
        n_axes = 3 if self._grid.is_3d else 2
        per_mm = (
            points.reshape(-1, 3) * np.array(self._grid.encoded_matrix) / np.array(self._grid.encoded_fov_mm)
        )
        coils = np.stack(
            [self._coil_plane(frame.slice, fine[0], fine[1], height) for height in fine[2]], axis=1
        )
        weighted = (coils * volume).reshape(self._coils.n_coils, *volume.shape[3 - n_axes :])
        scale, turn, angles = 1.0, np.zeros(len(per_mm)), []
        for axis in range(n_axes):
            at = fine[axis]
            step = at[1] - at[0] if len(at) > 1 else 1.0
            voxel = self._grid.recon_fov_mm[axis] / self._grid.recon_matrix[axis]
            scale *= step / voxel / np.sqrt(self._grid.recon_matrix[axis])
            turn += per_mm[:, axis] * at[len(at) // 2]
            angles.append(2 * np.pi * per_mm[:, axis] * step)
        measured = self._measured(frame, weighted, angles[::-1], times_s)
        measured *= scale * np.exp(-2j * np.pi * turn)
        return np.asarray(measured.reshape(-1, *points.shape[:-1]), dtype=np.complex64)

    def _measured(
        self,
        frame: Frame,
        weighted: npt.NDArray[np.complex64],
        angles: list[npt.NDArray[np.float64]],
        times_s: npt.NDArray[np.float64],
    ) -> npt.NDArray[Any]:
        """`_nufft` of coil images, whose phase off-resonance turns over each readout."""
        if not self._config.off_resonance_hz:
            return _nufft(weighted, angles)
        field = self._field(frame.slice, self._fine_axes(frame.slice)).reshape(weighted.shape[1:])
        segments = TimeSegments.of(float(field.min()), float(field.max()), times_s)
        measured = np.zeros((len(weighted), len(angles[0])), np.complex128)
        for at_s, weights in zip(segments.times_s, segments.weights, strict=True):
            turned = _nufft(weighted * np.exp(2j * np.pi * at_s * field), angles)
            measured += turned * np.tile(weights, len(angles[0]) // len(weights))
        return measured

    def off_resonance(self, slice_: int) -> npt.NDArray[np.float32]:
        """Off-resonance ``(z, y, x)`` in Hz of a slice or slab, on the grid of the image."""
        return self._field(slice_, self._image_axes()).astype(np.float32)

    def _field(self, slice_: int, axes: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        x, y, z = axes
        return field_hz(self._grid.points(slice_, x, y, z), self._config.off_resonance_hz)

    def along_readout(
        self, frame: Frame, phase_y_rad: tuple[float, ...] = (0.0,)
    ) -> tuple[npt.NDArray[np.complex64], npt.NDArray[np.float64]]:
        """A slice before it is encoded along the readout: ``(coil, k1, x)``, and the places x in mm.

        Summed with ``exp(-2πi k0 x)`` over x, for any k0 in cycles per mm, it gives samples as `kspace` scales them.

        Args:
            frame: of which.
            phase_y_rad: a phase that the slice has beside its own, a polynomial of y in fields of view of the image.
        """
        x, y, _ = self._fine_axes(frame.slice)
        n = self._grid.encoded_matrix[0]
        scale = np.sqrt(n) / (n * self._config.supersampling[0])
        phase = np.polynomial.polynomial.polyval(y / self._grid.recon_fov_mm[1], phase_y_rad)

        def hybrid() -> npt.NDArray[np.complex64]:
            plane = self._coil_plane(frame.slice, x, y, 0.0) * self._object(frame)[0]
            return np.asarray(
                scale * (self._to_kspace(1, y) @ (plane * np.exp(1j * phase)[:, None])), dtype=np.complex64
            )

        return self._hybrids.get((frame, phase_y_rad), hybrid), x

    def truth(self, frame: Frame) -> npt.NDArray[np.complex64]:
        """Image ``(z, y, x)`` that a perfect scan without coils and noise would give, on the grid of the image."""
        volume = self._object(frame)
        fine = self._fine_axes(frame.slice)
        for axis in range(3):
            matrix = self._to_image(axis) @ self._to_kspace(axis, fine[axis])
            volume = np.moveaxis(np.tensordot(matrix, volume, axes=(1, 2 - axis)), 0, 2 - axis)
        if self._round_axes:
            volume = self._rounded(volume)
        return np.ascontiguousarray(volume, dtype=np.complex64)

    def _rounded(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image ``(z, y, x)`` without what lies outside of the disc or ball that is sampled."""
        axes = tuple(range(-self._round_axes, 0))
        frequencies = [np.fft.fftfreq(volume.shape[axis]) for axis in axes]
        squares = sum(one**2 for one in np.meshgrid(*frequencies, indexing="ij"))
        found: npt.NDArray[Any] = np.fft.ifftn(np.fft.fftn(volume, axes=axes) * (squares <= 0.25), axes=axes)
        return found

    def mask(self, frame: Frame) -> npt.NDArray[np.bool_]:
        """Where the object is ``(z, y, x)``, on the grid of the image."""
        x, y, z = self._image_axes()
        share = self._phantom.evaluate(self._grid.points(frame.slice, x, y, z), frame.state)[1]
        return np.asarray(share > 0.5)

    def maps(self, slice_: int) -> npt.NDArray[np.complex64]:
        """Coil maps ``(coil, z, y, x)`` of a slice or slab, on the grid of the image."""
        x, y, z = self._image_axes()
        return np.stack([self._coil_plane(slice_, x, y, height) for height in z], axis=1)

    def _transform(self, frame: Frame) -> npt.NDArray[np.complex64]:
        volume = self._object(frame)
        x, y, z = self._fine_axes(frame.slice)
        along_x, along_y, along_z = (self._to_kspace(axis, at) for axis, at in enumerate((x, y, z)))
        nx, ny, nz = self._grid.encoded_matrix
        kspace = np.zeros((nz, self._coils.n_coils * ny * nx), np.complex64)
        for first in range(0, len(z), _PLANES_AT_ONCE):
            some = slice(first, first + _PLANES_AT_ONCE)
            planes = [
                along_y @ (self._coil_plane(frame.slice, x, y, height) * plane) @ along_x.T
                for height, plane in zip(z[some], volume[some], strict=True)
            ]
            kspace += along_z[:, some] @ np.reshape(planes, (len(planes), -1))
        return np.ascontiguousarray(np.moveaxis(kspace.reshape(nz, -1, ny, nx), 0, 1))

    def _object(self, frame: Frame) -> npt.NDArray[np.complex64]:
        """The object on the fine grid ``(z, y, x)``, complex; a single plane, the slice's mean, in 2-D."""
        return self._objects.get(frame, lambda: self._sample_object(frame))

    def _sample_object(self, frame: Frame) -> npt.NDArray[np.complex64]:
        x, y, z = self._fine_axes(frame.slice)
        volume = np.empty((len(z), len(y), len(x)), np.complex64)
        across = np.zeros(1)
        if not self._grid.is_3d:
            n = self._config.supersampling[2]
            across = ((np.arange(n) + 0.5) / n - 0.5) * self._grid.recon_fov_mm[2]
        for plane, height in zip(volume, z, strict=True):
            points = self._grid.points(frame.slice, x, y, height + across)
            intensity, _ = self._phantom.evaluate(points, frame.state)
            np.mean(intensity * np.exp(1j * self._phase(points, frame.set)), axis=0, out=plane)
        return volume

    def _phase(self, points: npt.NDArray[np.float32], set_: int) -> npt.NDArray[np.float32]:
        """Smooth phase of the object in rad ``(...)``: of the transmit field and, per set, of a flow encoding."""
        x, y, z = points / np.float32(100.0)
        transmit = 0.8 * x - 0.5 * y + 0.3 * z + 0.7 * x * y - 0.4 * (x**2 - z**2)
        flow = 0.6 * set_ * np.cos(1.3 * x + 0.4 * z) * np.cos(1.1 * y)
        return np.asarray(self._config.background_phase_rad * transmit + flow, dtype=np.float32)

    def _coil_plane(
        self, slice_: int, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], z: float
    ) -> npt.NDArray[np.complex64]:
        directions = self._grid.directions
        corner = self._grid.positions[slice_] + directions.matrix @ np.array([x[0], y[0], z])
        step_x = x[1] - x[0] if len(x) > 1 else 1.0
        step_y = y[1] - y[0] if len(y) > 1 else 1.0
        return self._coils.plane(
            corner, (directions.phase * step_y, directions.read * step_x), (len(y), len(x))
        )

    def _fine_axes(self, slice_: int) -> list[npt.NDArray[np.float64]]:
        """Coordinates of the fine grid along (x, y, z), within the object's box, and within what gives signal."""
        axes = []
        corners = np.stack(np.meshgrid(*self._phantom.bounds_mm.T), axis=-1).reshape(-1, 3)
        reach = (corners - self._grid.positions[slice_]) @ self._grid.directions.matrix
        for axis in range(3):
            if axis == 2 and not self._grid.is_3d:
                axes.append(np.zeros(1))
                continue
            n = self._grid.encoded_matrix[axis] * self._config.supersampling[axis]
            fov = self._grid.encoded_fov_mm[axis]
            if axis > 0 and not self._config.saturated:
                fields = 2 * int(np.ceil(np.abs(reach[:, axis]).max() / fov)) + 1
                n, fov = n * fields, fov * fields
            every = grid_coordinates(n, fov)
            inside = (every >= reach[:, axis].min()) & (every <= reach[:, axis].max())
            # A scan beside the object still needs a point; the object is empty there.
            axes.append(every[inside] if inside.any() else every[:1])
        return axes

    def _image_axes(self) -> list[npt.NDArray[np.float64]]:
        return [
            grid_coordinates(n, fov)
            for n, fov in zip(self._grid.recon_matrix, self._grid.recon_fov_mm, strict=True)
        ]

    def _to_kspace(self, axis: int, at_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.complex64]:
        """Matrix ``(k, point)`` that takes points of the fine grid to the encoded k-space of one axis."""
        n = self._grid.encoded_matrix[axis]
        if axis == 2 and n == 1:
            return np.ones((1, 1), np.complex64)
        fov = self._grid.encoded_fov_mm[axis]
        scale = np.sqrt(n) / (n * self._config.supersampling[axis])
        angle = -2 * np.pi * np.outer(grid_coordinates(n, n / fov), at_mm)
        return np.asarray(scale * np.exp(1j * angle), dtype=np.complex64)

    def _to_image(self, axis: int) -> npt.NDArray[np.complex64]:
        """Matrix ``(voxel, k)`` from one axis of the encoded k-space to the image, at the protocol's resolution."""
        n = self._grid.encoded_matrix[axis]
        at_mm = self._image_axes()[axis]
        if axis == 2 and n == 1:
            return np.ones((1, 1), np.complex64)
        k = grid_coordinates(n, n / self._grid.encoded_fov_mm[axis])
        matrix = np.exp(2j * np.pi * np.outer(at_mm, k)) / np.sqrt(n)
        if axis > 0:
            low, high = self._bands[axis - 1].resolved
            matrix[:, :low] = 0
            matrix[:, high:] = 0
        return np.asarray(matrix, dtype=np.complex64)


def _nufft(volumes: npt.NDArray[np.complex64], angles: list[npt.NDArray[np.float64]]) -> npt.NDArray[Any]:
    """``Σ volume · exp(-i angle · (index − n // 2))`` of each volume ``(n, *axes)``, for angles along its axes."""
    try:
        finufft = import_module("finufft")
    except ImportError as error:
        raise MissingExtra("finufft", "noncartesian", "a simulated trajectory") from error
    transform = finufft.nufft2d2 if len(angles) == 2 else finufft.nufft3d2
    wrapped = [np.ascontiguousarray(np.remainder(angle + np.pi, 2 * np.pi) - np.pi) for angle in angles]
    # For a slice threads wait for each other longer than one of them takes.
    threads = {"nthreads": 1} if len(angles) == 2 else {}
    result: npt.NDArray[Any] = transform(
        *wrapped, np.ascontiguousarray(volumes, np.complex128), isign=-1, eps=1e-9, **threads
    )
    return np.atleast_2d(result)


class _Cache:
    """Arrays by a key; the ones used longest ago give way when all hold more than a number of bytes."""

    def __init__(self, n_bytes: int) -> None:
        self._limit = n_bytes
        self._kept: OrderedDict[Hashable, npt.NDArray[np.complex64]] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], npt.NDArray[np.complex64]]) -> npt.NDArray[np.complex64]:
        """The array of a key, made if it is not there."""
        if key not in self._kept:
            self._kept[key] = make()
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]
