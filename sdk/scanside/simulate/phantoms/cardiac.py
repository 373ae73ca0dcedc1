"""A chest with a beating heart, as a balanced steady-state sequence shows it.

The heart's long axis points to the left, forward and down, as it does in people: a short-axis scan is oblique. The
left ventricle contracts with thickening walls of constant volume, shortens and twists; the right one follows. Phase 0
is end diastole, end systole comes at a third of the beat.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from scanside.simulate.phantoms.shapes import (
    Canvas,
    ObjectState,
    Points,
    Scalar,
    Tissue,
    Waves,
    capsule,
    ellipsoid,
    smooth_union,
    soft,
    tube,
)

__all__ = ["HEART_CENTER_MM", "LONG_AXIS", "Cardiac", "contraction"]

HEART_CENTER_MM = (38.0, -38.0, 0.0)
"""Middle of the left ventricle, LPS."""

LONG_AXIS: npt.NDArray[np.float64] = np.array([0.62, -0.52, -0.588]) / np.linalg.norm([0.62, -0.52, -0.588])
"""From the base of the heart to its apex, LPS."""

_TISSUES = {
    "air": Tissue(0.0),
    "lung": Tissue(0.05, 2.0),
    "skin": Tissue(0.5, 25.0),
    "fat": Tissue(0.9, 30.0),
    "muscle": Tissue(0.3, 30.0),
    "bone": Tissue(0.06, 2.0),
    "marrow": Tissue(0.45, 20.0),
    "blood": Tissue(1.0, 120.0),
    "myocardium": Tissue(0.36, 40.0),
    "liver": Tissue(0.48, 25.0),
    "spleen": Tissue(0.42, 40.0),
    "vessel": Tissue(0.75, 100.0),
    "csf": Tissue(1.0, 300.0),
    "marker": Tissue(1.0, 60.0),
}


def contraction(beat: float) -> float:
    """How contracted the heart is, 0 at end diastole to 1 at end systole, for a phase of the beat in [0, 1).

    Systole takes a third of the beat; filling is fast at first, rests, and is completed by the atria.
    """
    beat %= 1.0
    if beat < 0.33:
        return float(0.5 - 0.5 * np.cos(np.pi * beat / 0.33))
    early = np.exp(-(((beat - 0.33) / 0.17) ** 2))
    atrial = 0.12 * (1 - 1 / (1 + np.exp(-(beat - 0.86) / 0.025)))
    rest = (beat - 0.33) / 0.67
    return float(early + atrial * (1 - early) * (1 - rest**8))


class Cardiac:
    """The chest, in LPS coordinates; the origin lies in the middle of the body at the height of the heart.

    Args:
        seed: draws the vessels of lung and liver and the trabeculae.
    """

    beats = True
    bounds_mm: npt.NDArray[np.float64] = np.array([[-182.0, -122.0, -260.0], [182.0, 122.0, 260.0]])

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng([seed, 11])
        self._lung = Waves(rng, wavelength_mm=26.0, n_waves=14)
        self._liver = Waves(rng, wavelength_mm=34.0, n_waves=14)
        self._shade = Waves(rng, wavelength_mm=90.0, n_waves=6)
        self._trabeculae = rng.uniform(0, 2 * np.pi, 3)
        across = np.cross(LONG_AXIS, (0.0, 0.0, 1.0))
        # Axes of the heart as columns: from the septum to the free wall, from below to above, to the apex.
        first = across / np.linalg.norm(across)
        if first[0] < 0:
            first = -first
        self._axes = np.stack([first, np.cross(LONG_AXIS, first), LONG_AXIS], axis=1)

        self._kept_chest: tuple[Points, float, Canvas] | None = None

    def evaluate(self, points: Points, state: ObjectState) -> tuple[Scalar, Scalar]:
        """Intensity and share of tissue at points ``(3, ...)`` in mm, LPS."""
        flat = np.asarray(points, np.float32).reshape(3, -1)
        canvas = self._chest(flat, state)
        near = np.flatnonzero(ellipsoid(flat, HEART_CENTER_MM, (95, 95, 95)) > 0)
        heart = canvas.part(near)
        self._paint_heart(flat[:, near], contraction(state.beat), heart)
        canvas.put(near, heart)
        canvas.intensity *= 1 + 0.06 * self._shade(flat)
        return canvas.intensity.reshape(points.shape[1:]), canvas.share.reshape(points.shape[1:])

    def _chest(self, points: Points, state: ObjectState) -> Canvas:
        """The chest without the heart. It does not beat, so that of the last points is kept for their next phase."""
        kept = self._kept_chest
        if kept is None or kept[1] != state.decay_ms or not np.array_equal(kept[0], points):
            canvas = Canvas(points.shape[1], state)
            self._paint_chest(points, _body(points), canvas)
            self._kept_chest = kept = (points.copy(), state.decay_ms, canvas)
        return kept[2].part(np.arange(points.shape[1]))

    def _paint_chest(self, points: Points, body: Scalar, canvas: Canvas) -> None:
        x, y, z = points
        canvas.paint(_TISSUES["skin"], soft(body, 1.0))
        canvas.paint(_TISSUES["fat"], soft(body - 2, 1.0))
        layer = 12 + 4 * self._shade(points) + 5 * np.clip(-x / 170, -1, 1) ** 2
        canvas.paint(_TISSUES["muscle"], soft(body - layer, 1.0))
        # Pectoral and back muscles are parted by fat.
        canvas.paint(
            _TISSUES["fat"],
            soft(0.9 - np.abs(body - layer - 9 - 2 * self._shade(points)), 1.0) * (body > layer + 2),
        )
        cage = body - layer - 17
        # Ribs slant forward and down, 26 mm apart.
        rib = 5.5 - np.hypot(np.mod(z - 0.45 * y + 4, 26) - 13, (cage + 5) * 0.9)
        canvas.paint(_TISSUES["bone"], soft(rib))
        canvas.paint(_TISSUES["marrow"], soft(rib - 2))
        self._paint_lungs(points, cage, canvas)
        self._paint_abdomen(points, cage, canvas)
        # Sternum, spine with its canal, descending aorta, oesophagus.
        canvas.paint(_TISSUES["bone"], soft(ellipsoid(points, (0, -84, 20), (20, 7, 90))))
        canvas.paint(_TISSUES["marrow"], soft(ellipsoid(points, (0, -84, 20), (17, 4.5, 88))))
        disc = np.abs(np.mod(z, 28) - 14) - 3
        vertebra = np.hypot(x / 1.1, y - 55) * -1 + 19
        canvas.paint(_TISSUES["muscle"], soft(ellipsoid(points, (0, 78, 0), (62, 27, 400))))
        canvas.paint(_TISSUES["bone"], soft(vertebra))
        canvas.paint(_TISSUES["marrow"], soft(np.minimum(vertebra - 2, disc)))
        canvas.paint(_TISSUES["bone"], soft(15 - np.hypot(x, (y - 80) / 1.2)))
        canvas.paint(_TISSUES["csf"], soft(9 - np.hypot(x, y - 79)))
        canvas.paint(_TISSUES["muscle"], soft(4.5 - np.hypot(x, y - 79)))
        canvas.paint(_TISSUES["blood"], soft(tube(points, [(24, 40, -260), (26, 42, 260)], [11, 11])))
        canvas.paint(_TISSUES["muscle"], soft(tube(points, [(8, 30, -60), (4, 32, 260)], [6, 6])))
        canvas.paint(_TISSUES["air"], 1 - soft(body, 1.0), air=True)
        canvas.paint(_TISSUES["marker"], soft(capsule(points, (74, -110, 0), (74, -110, 30), 5)))

    def _paint_lungs(self, points: Points, cage: Scalar, canvas: Canvas) -> None:
        x = points[0]
        mediastinum = np.minimum(
            smooth_union(
                np.asarray(30 - np.abs(x + 2), np.float32),
                ellipsoid(points, (24, -38, 10), (50, 44, 52)),
                14,
            ),
            1e3,
        )
        lung = np.minimum(np.minimum(cage, -mediastinum), -_diaphragm(points))
        canvas.paint(_TISSUES["lung"], soft(lung, 1.0))
        value, gradient = self._lung.with_gradient(points)
        other = np.sqrt(np.sum(gradient**2, axis=0))
        branch = 1.1 - np.hypot(value / 0.24, (other - 0.2) / 0.09)
        canvas.paint(_TISSUES["vessel"], soft(np.minimum(branch * 2, lung - 3), 1.2) * 0.5)

    def _paint_abdomen(self, points: Points, cage: Scalar, canvas: Canvas) -> None:
        dome = np.minimum(_diaphragm(points), cage)
        canvas.paint(_TISSUES["muscle"], soft(dome))
        x, y, z = points
        inside = dome - 2.5
        canvas.paint(_TISSUES["fat"], soft(inside))
        liver = np.minimum(inside, -(x - 35 + 0.35 * y + 0.3 * z))
        canvas.paint(_TISSUES["liver"], soft(liver))
        value, gradient = self._liver.with_gradient(points)
        branch = 1.0 - np.hypot(value / 0.3, (np.sqrt(np.sum(gradient**2, axis=0)) - 0.16) / 0.05)
        canvas.paint(_TISSUES["vessel"], soft(np.minimum(branch * 3, liver - 4), 1.2))
        stomach = np.minimum(ellipsoid(points, (72, -10, -118), (42, 48, 50)), inside - 3)
        canvas.paint(_TISSUES["muscle"], soft(stomach))
        canvas.paint(_TISSUES["air"], soft(stomach - 4) * (y < -8), air=True)
        canvas.paint(_TISSUES["csf"], soft(stomach - 4) * (y >= -8))
        canvas.paint(
            _TISSUES["spleen"], soft(np.minimum(ellipsoid(points, (112, 45, -105), (26, 40, 45)), inside))
        )

    def _paint_heart(self, points: Points, squeeze: float, canvas: Canvas) -> None:
        center = np.asarray(HEART_CENTER_MM, np.float32)[:, None]
        u, v, w = np.tensordot(self._axes.T.astype(np.float32), points - center, axes=1)
        # The base moves towards the apex, the apex stays.
        w = np.asarray(45 - (45 - w) * (1 + 0.16 * squeeze), np.float32)
        twist = 0.18 * squeeze * np.clip(w / 45, -1, 1)
        u, v = np.cos(twist) * u + np.sin(twist) * v, np.cos(twist) * v - np.sin(twist) * u
        heart = np.asarray(np.stack([u, v, w]), np.float32)

        base = np.asarray(w + 38, np.float32)
        # Cross section of the ventricle: half an ellipsoid that is open towards the base.
        taper = np.sqrt(np.clip(1 - (np.clip(w + 10, 0, None) / 58) ** 2, 0.0, 1))
        inner_full, wall = 25.0, 9.0
        inner = inner_full * (1 - 0.36 * squeeze)
        outer = np.sqrt(inner**2 + ((inner_full + wall) ** 2 - inner_full**2) * (1 + 0.1 * squeeze))
        radius = np.hypot(u, v)
        angle = np.arctan2(v, u)
        rough = sum(
            amplitude * np.cos(n * angle + shift + 0.06 * w)
            for amplitude, n, shift in zip((0.5, 0.8, 0.6), (5, 9, 14), self._trabeculae, strict=True)
        )
        cap = np.asarray(48 - w, np.float32)
        outside = np.minimum(np.minimum(outer * taper - radius, cap), base)
        cavity = np.minimum(
            np.minimum((inner + rough) * np.clip(taper * 1.06 - 0.06, 0, 1) - radius, cap - 9), base + 6
        )

        right_inner = 1 - 0.22 * squeeze
        right = ellipsoid(heart, (-25.0, -4, -16), (36 * right_inner, 33 * right_inner, 52))
        right = np.minimum(np.minimum(right, -(outside - 0.0)), base + 2)
        right_wall = np.minimum(
            ellipsoid(heart, (-25.0, -4, -16), (36 * right_inner + 4, 33 * right_inner + 4, 56)), base
        )
        fat = smooth_union(
            np.asarray(outside + 5, np.float32),
            np.asarray(right_wall + 4 + 2.5 * self._shade(points * 2), np.float32),
            10,
        )
        canvas.paint(_TISSUES["fat"], soft(fat, 1.0))
        self._paint_base(heart, squeeze, canvas)
        canvas.paint(_TISSUES["myocardium"], soft(np.maximum(outside, right_wall)))
        canvas.paint(_TISSUES["blood"], soft(right))
        bands = 1.0 - np.abs(np.mod(0.8 * u + 0.5 * w + 3 * np.sin(v / 7), 9) - 4.5)
        canvas.paint(_TISSUES["myocardium"], soft(np.minimum(bands, np.minimum(6 - right, right + 1))))
        canvas.paint(_TISSUES["myocardium"], soft(outside))
        canvas.paint(_TISSUES["blood"], soft(cavity))
        for direction, size in ((0.65, 4.6), (-0.95, 4.0)):
            reach = (inner - 5.5) * 0.93
            at = (reach * np.cos(direction), reach * np.sin(direction))
            muscle = capsule(
                heart,
                (at[0], at[1], -8.0),
                (at[0] * 0.9, at[1] * 0.9, 32.0),
                size * (1 + 0.15 * squeeze),
            )
            canvas.paint(_TISSUES["myocardium"], soft(np.minimum(muscle, cavity + 4)))
        # Coronary arteries in the grooves.
        for turn in (2.35, -2.2, 0.2):
            spot = (outer + 2.5) * np.cos(turn), (outer + 2.5) * np.sin(turn)
            canvas.paint(
                _TISSUES["blood"],
                soft(capsule(heart, (*spot, -36.0), (spot[0] * 0.7, spot[1] * 0.7, 30.0), 1.5)),
            )

    def _paint_base(self, heart: Points, squeeze: float, canvas: Canvas) -> None:
        """Atria and great vessels above the valves."""
        grow = 1 + 0.12 * squeeze
        for center, semiaxes in (
            ((4.0, -8.0, -60.0), (28.0, 24.0, 21.0)),
            ((-44.0, -10.0, -58.0), (25.0, 27.0, 22.0)),
        ):
            atrium = ellipsoid(heart, center, (semiaxes[0] * grow, semiaxes[1] * grow, semiaxes[2] * grow))
            canvas.paint(_TISSUES["myocardium"], soft(atrium + 2.5))
            canvas.paint(_TISSUES["blood"], soft(atrium))
        for path in (
            [(-8.0, 14.0, -36.0), (-16.0, 34.0, -70.0)],
            [(-30.0, 22.0, -30.0), (-8.0, 44.0, -60.0)],
        ):
            root = tube(heart, path, [12.5, 13.5])
            canvas.paint(_TISSUES["myocardium"], soft(root + 2))
            canvas.paint(_TISSUES["blood"], soft(root))


def _body(points: Points) -> Scalar:
    x, y, z = points
    flattened = np.stack([x * (1 + 0.0004 * np.abs(z)), y - 4 * np.cos(x / 60), np.zeros_like(z)])
    # A superellipse is nearer to a chest than an ellipse.
    semi = (172.0, 112.0)
    size = (np.abs(flattened[0] / semi[0]) ** 2.4 + np.abs(flattened[1] / semi[1]) ** 2.4) ** (1 / 2.4)
    slope = np.hypot(flattened[0] / semi[0] ** 2, flattened[1] / semi[1] ** 2) / np.maximum(size, 1e-3)
    return np.asarray(np.minimum((1 - size) / np.maximum(slope, 1e-4), 255 - np.abs(z)), np.float32)


def _diaphragm(points: Points) -> Scalar:
    """Distance below the diaphragm; its right dome, over the liver, is the higher one."""
    x, y, z = points
    right = 38 * np.exp(-(((x + 72) / 62) ** 2) - ((y + 5) / 75) ** 2)
    left = 22 * np.exp(-(((x - 78) / 55) ** 2) - ((y + 0) / 70) ** 2)
    height = -72 + right + left
    return np.asarray((height - z) * 0.85, np.float32)
