"""The trajectory that gradients make, predicted from the one that was asked for, by their impulse response.

Vannesjo et al.: *Gradient system characterization by impulse response measurements with a dynamic field camera*, Magn
Reson Med 69:583-593 (2013). Addy, Wu, Nishimura: *Simple method for MR gradient system characterization and k-space
trajectory estimation*, Magn Reson Med 68:120-129 (2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from scanside.errors import ScanError, ShapeError

__all__ = ["Girf"]

Points = npt.NDArray[np.float64]
Values = npt.NDArray[np.complex128]

_OUTSIDE = 0.01  # of the gradient's power may lie beyond the frequencies of the response
_LONGEST = 1 << 16  # samples of the response that are looked at


@dataclass(frozen=True)
class Girf:
    """The transfer functions of a gradient system.

    Transfer functions are ``H(f) = ∫ h(t) exp(-2πi f t) dt``: a gradient that comes later by τ has
    ``exp(-2πi f τ)``. Between frequencies they are interpolated; beyond the last one, gradients are taken to come as
    they were asked for.

    Attributes:
        frequencies_hz: ``(n ≥ 3,)``, from 0 on, rising.
        transfer: ``(3, 3, n)``: of the gradient along the first axis that comes, for one along the second that was
            asked for; without unit, about 1 on the diagonal.
        field: ``(3, n)`` in metres: of the field that comes everywhere (k0) in T, for a gradient in T/m; None where
            it is not known.
        axes: along which gradients are meant: read, phase and slice direction of the scan (``readout``), or those of
            the patient, L, P and S (``patient``), which are the scanner's own x, y and z, but for the sign, of a
            patient who lies straight on back or belly.
    """

    frequencies_hz: npt.NDArray[np.float64]
    transfer: Values
    field: Values | None = None
    axes: Literal["readout", "patient"] = "readout"

    def predicted(self, points: Points, dwell_us: float) -> tuple[Points, Points]:
        """The points that gradients make, and the phase of the field that comes with them.

        What gradients do before a readout is not told by its trajectory. Where it begins in the centre of k-space
        they are taken to begin with it; otherwise to have been for long what they are at the first sample.

        Args:
            points: ``(readout, sample, 3)`` as asked for, in cycles per metre along the axes of the response.
            dwell_us: sample time.

        Returns:
            Points of the same shape, and ``(readout, sample)`` in cycles: samples carry ``exp(-2πi phase)``.

        Raises:
            ScanError: the response ends below frequencies that the gradients hold.
            ShapeError: readouts have less than two samples, or points no three dimensions.
        """
        if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] < 2:
            raise ShapeError(f"a trajectory to predict is (readout, sample ≥ 2, 3), got {points.shape}")
        spectrum, first, frequencies = self._of_gradients(points, dwell_us * 1e-6)
        n = points.shape[1]

        def made(transfer: Values) -> Points:
            """What a transfer from each axis ``(3, n)`` makes of k ``(readout, sample)``."""
            change = np.einsum("rfa,af->rf", spectrum, self._summed(transfer, frequencies))
            moved = np.fft.irfft(change, 2 * (len(frequencies) - 1))[:, first : first + n]
            return np.asarray(points @ transfer[:, 0].real + moved)

        moved = np.stack([made(row) for row in self.transfer], axis=-1)
        phase = np.zeros(points.shape[:2]) if self.field is None else made(self.field)
        return moved, phase

    def _of_gradients(self, points: Points, dwell_s: float) -> tuple[Values, int, npt.NDArray[np.float64]]:
        """Spectrum ``(readout, frequency, 3)`` of gradients, the number of their first sample, and frequencies."""
        gradient = np.gradient(points, dwell_s, axis=1)
        # As long as the response lasts, which is what one step of its frequencies tells.
        longest = min(round(1 / (dwell_s * float(np.diff(self.frequencies_hz).min()))), _LONGEST)
        begins = (
            np.linalg.norm(points[:, 0], axis=-1) < np.linalg.norm(points[:, 1] - points[:, 0], axis=-1) / 2
        )
        before = np.where(begins[:, None], 0.0, gradient[:, 0])[:, None]
        fade = np.hanning(2 * longest)[longest:, None]
        after = before + (gradient[:, -1:] - before) * fade
        whole = np.concatenate([before.repeat(longest, 1), gradient, after], axis=1)
        whole = whole[:, : whole.shape[1] // 2 * 2]
        spectrum = np.fft.rfft(whole, axis=1)
        frequencies = np.asarray(np.fft.rfftfreq(whole.shape[1], dwell_s), np.float64)
        power = np.square(np.abs(spectrum)).sum((0, 2))
        if (outside := power[frequencies > self.frequencies_hz[-1]].sum()) > _OUTSIDE * power.sum():
            raise ScanError(
                f"{100 * outside / power.sum():.0f} % of the gradients' power lies above "
                f"{self.frequencies_hz[-1]:.0f} Hz, where the gradients' response ends, expected at most "
                f"{100 * _OUTSIDE:.0f} %: measure it over more frequencies"
            )
        return spectrum, longest, frequencies

    def _summed(self, transfer: Values, frequencies: npt.NDArray[np.float64]) -> Values:
        """``(H(f) − H(0)) / (2πi f)`` of each axis ``(3, frequency)``: from a gradient to its part of k."""
        with np.errstate(invalid="ignore", divide="ignore"):
            known = (transfer - transfer[:, :1].real) / (2j * np.pi * self.frequencies_hz)
        # At 0 it is real, and even about it: a parabola through the next two.
        square = self.frequencies_hz[1:3] ** 2
        known[:, 0] = (known[:, 1:3].real @ (square[::-1] * [1, -1])) / (square[1] - square[0])
        return np.stack(
            [
                np.interp(frequencies, self.frequencies_hz, row.real, right=0.0)
                + 1j * np.interp(frequencies, self.frequencies_hz, row.imag, right=0.0)
                for row in known
            ]
        )
