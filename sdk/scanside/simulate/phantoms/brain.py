"""A head that looks like one: scalp, skull, folded cortex, ventricles, deep nuclei, vessels and lesions.

The cortex is drawn with level sets: the zero lines of a random wave pattern on the surface of the brain meander
like sulci, and sheets of cerebrospinal fluid sink from them into the brain, lined with grey matter. Nothing is
mirror symmetric: ventricles, lesions, sinus, eyes and the marker capsules on the skin differ from side to side, front
to back and top to bottom, so that every flip, transposition and rotation shows.
"""

from __future__ import annotations

from typing import Literal, get_args

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

__all__ = ["Brain", "Property"]

Weighting = Literal["t1", "t2", "pd", "flair"]

Property = Literal["proton-density", "t1-ms", "t2-ms"]
"""What a sequence weights."""

# Intensity by weighting, and T2* in ms.
_TISSUES: dict[str, tuple[dict[Weighting, float], float]] = {
    "air": ({"t1": 0.0, "t2": 0.0, "pd": 0.0, "flair": 0.0}, 10.0),
    "skin": ({"t1": 0.55, "t2": 0.35, "pd": 0.6, "flair": 0.4}, 25.0),
    "fat": ({"t1": 0.95, "t2": 0.55, "pd": 0.75, "flair": 0.6}, 30.0),
    "muscle": ({"t1": 0.42, "t2": 0.22, "pd": 0.55, "flair": 0.35}, 25.0),
    "bone": ({"t1": 0.05, "t2": 0.04, "pd": 0.06, "flair": 0.04}, 2.0),
    "marrow": ({"t1": 0.5, "t2": 0.3, "pd": 0.4, "flair": 0.35}, 20.0),
    "csf": ({"t1": 0.12, "t2": 1.0, "pd": 0.8, "flair": 0.05}, 400.0),
    "grey": ({"t1": 0.48, "t2": 0.61, "pd": 0.86, "flair": 0.62}, 60.0),
    "deep_grey": ({"t1": 0.54, "t2": 0.48, "pd": 0.82, "flair": 0.52}, 50.0),
    "pallidum": ({"t1": 0.6, "t2": 0.3, "pd": 0.74, "flair": 0.36}, 30.0),
    "white": ({"t1": 0.72, "t2": 0.36, "pd": 0.7, "flair": 0.46}, 55.0),
    "vessel": ({"t1": 0.9, "t2": 0.08, "pd": 0.95, "flair": 0.08}, 80.0),
    "lesion": ({"t1": 0.34, "t2": 0.86, "pd": 0.95, "flair": 0.98}, 90.0),
    "lens": ({"t1": 0.35, "t2": 0.2, "pd": 0.4, "flair": 0.2}, 20.0),
    "marker": ({"t1": 1.0, "t2": 0.95, "pd": 1.0, "flair": 0.6}, 60.0),
}

# Proton density relative to water, T1 and T2 in ms at 3 T. White and grey matter, muscle and blood after Stanisz et
# al., Magn Reson Med 54:507 (2005); fat and marrow after de Bazelaire et al., Radiology 230:652 (2004); the rest is
# typical. Blood stands still here, and has no flow void.
_PROPERTIES: dict[str, tuple[float, float, float]] = {
    "air": (0.0, 0.0, 0.0),
    "skin": (0.65, 900.0, 40.0),
    "fat": (0.9, 382.0, 68.0),
    "muscle": (0.75, 1412.0, 50.0),
    "bone": (0.05, 300.0, 5.0),
    "marrow": (0.45, 586.0, 49.0),
    "csf": (1.0, 4200.0, 1900.0),
    "grey": (0.83, 1820.0, 99.0),
    "deep_grey": (0.81, 1400.0, 80.0),
    "pallidum": (0.77, 1100.0, 58.0),
    "white": (0.7, 1084.0, 69.0),
    "vessel": (0.9, 1932.0, 275.0),
    "lesion": (0.88, 1600.0, 140.0),
    "lens": (0.5, 1000.0, 30.0),
    "marker": (0.9, 350.0, 80.0),
}


class Brain:
    """The head, centred about the commissures, in LPS coordinates.

    Args:
        weighting: contrast, as a spin-echo sequence would give it; or a property of the tissues, at whose edges there
            are values in between.
        seed: draws the folds of the cortex and the texture of the tissues.
    """

    beats = False
    bounds_mm: npt.NDArray[np.float64] = np.array([[-92.0, -116.0, -125.0], [92.0, 112.0, 106.0]])

    def __init__(self, weighting: Weighting | Property = "t2", seed: int = 0) -> None:
        self._tissue = {
            name: Tissue(_intensity(name, weighting), t2star) for name, (_, t2star) in _TISSUES.items()
        }
        rng = np.random.default_rng([seed, 7])
        self._folds = Waves(rng, wavelength_mm=21.0, n_waves=14)
        self._bend = [Waves(rng, wavelength_mm=42.0, n_waves=5) for _ in range(3)]
        self._undulation = Waves(rng, wavelength_mm=55.0, n_waves=5)
        self._texture = Waves(rng, wavelength_mm=11.0, n_waves=14)
        self._shade = Waves(rng, wavelength_mm=60.0, n_waves=5)

    def evaluate(self, points: Points, state: ObjectState) -> tuple[Scalar, Scalar]:
        """Intensity and share of tissue at points ``(3, ...)`` in mm, LPS."""
        shape = points.shape[1:]
        flat = np.asarray(points, np.float32).reshape(3, -1)
        near = np.all((self.bounds_mm[0] < flat.T) & (self.bounds_mm[1] > flat.T), axis=1)
        intensity = np.zeros(flat.shape[1], np.float32)
        share = np.zeros_like(intensity)
        inside = flat[:, near]
        canvas = Canvas(inside.shape[1], state)
        self._paint(inside, canvas)
        intensity[near] = canvas.intensity
        share[near] = canvas.share
        return intensity.reshape(shape), share.reshape(shape)

    def _paint(self, points: Points, canvas: Canvas) -> None:
        skin = _skin(points)
        hull = _brain_hull(points) + 0.8 * self._undulation(points)
        self._paint_outside(points, skin, hull, canvas)
        within = np.flatnonzero(hull > -4)
        brain = canvas.part(within)
        self._paint_brain(points[:, within], hull[within], brain)
        canvas.put(within, brain)
        self._paint_markers(points, canvas)

    def _paint_outside(self, points: Points, skin: Scalar, hull: Scalar, canvas: Canvas) -> None:
        """Everything between the air and the brain: skin, fat, muscle, skull, face."""
        _, y, z = points
        tissue = self._tissue
        canvas.paint(tissue["skin"], soft(skin))
        canvas.paint(tissue["fat"], soft(skin - 1.6))
        # Below the vault muscle takes the place of most of the fat.
        low = np.clip((-25 - z) / 12, 0, 1)
        canvas.paint(tissue["muscle"], soft(skin - 5 - 1.5 * self._undulation(points)) * low)
        temporal = np.minimum(ellipsoid(_mirrored(points), (64, -30, -12), (13, 28, 26)), skin - 3)
        canvas.paint(tissue["muscle"], soft(temporal))
        # The skull follows the brain: outer table, marrow, inner table.
        thick = 7.5 + 0.8 * self._shade(points) + 1.5 * np.clip((y - 30) / 50, 0, 1)
        vault = np.clip((z + 52) / 8, 0, 1)
        canvas.paint(tissue["bone"], soft(np.minimum(hull + 3 + thick, skin - 2.5)) * vault)
        canvas.paint(tissue["marrow"], soft(np.minimum(hull + 0.8 + thick, -(hull + 5.2))) * vault)
        self._paint_face(points, skin, canvas)

    def _paint_face(self, points: Points, skin: Scalar, canvas: Canvas) -> None:
        x, _, z = points
        tissue = self._tissue
        mirrored = _mirrored(points)
        for side, shift in ((1.0, 0.0), (-1.0, 2.0)):
            orbit = ellipsoid(points, (side * 31, -68 + shift, -36), (19, 25, 18))
            canvas.paint(tissue["fat"], soft(np.minimum(orbit, skin - 2)))
            globe = ellipsoid(points, (side * 32, -76 + shift, -36), (12, 12, 12))
            canvas.paint(tissue["csf"], soft(globe))
            canvas.paint(tissue["lens"], soft(ellipsoid(points, (side * 32, -86 + shift, -36), (5, 2.2, 5))))
            canvas.paint(
                tissue["muscle"],
                soft(capsule(points, (side * 30, -64 + shift, -36), (side * 14, -38, -34), 2.2)),
            )
        # Nasal cavity and sinuses hold air; the septum bends to one side.
        cavity = ellipsoid(points, (0, -72, -58), (15, 26, 26))
        septum = np.abs(x - 1.5 * np.sin(z / 9)) - 1.2
        turbinate = np.abs(np.mod(z + 4 * np.abs(x) / 15, 13) - 6.5) - 3.2
        canvas.paint(
            tissue["air"],
            soft(np.minimum(np.minimum(cavity, septum), np.maximum(turbinate, 5 - np.abs(x)))),
            air=True,
        )
        maxillary = ellipsoid(mirrored, (31, -62, -68), (14, 17, 14))
        canvas.paint(tissue["air"], soft(maxillary), air=True)
        frontal = ellipsoid(points, (7, -87, -8), (15, 5, 9))
        canvas.paint(tissue["air"], soft(np.minimum(frontal, skin - 5)), air=True)
        canvas.paint(tissue["air"], soft(tube(points, [(0, -10, -75), (0, 0, -130)], [8, 8])), air=True)
        # Vertebral column.
        canvas.paint(tissue["bone"], soft(tube(points, [(0, 28, -62), (0, 32, -130)], [24, 20])))
        canvas.paint(tissue["marrow"], soft(tube(points, [(0, 16, -66), (0, 20, -130)], [9, 9])))

    def _paint_brain(self, points: Points, hull: Scalar, canvas: Canvas) -> None:
        tissue = self._tissue
        canvas.paint(tissue["csf"], soft(hull + 3))
        brainstem = tube(
            points, [(0, 14, -6), (0, 8, -28), (0, 16, -48), (0, 24, -70), (0, 27, -128)], [9, 16, 12, 7, 6]
        )
        canvas.paint(tissue["csf"], soft(brainstem + 3))
        cerebellum = _cerebellum(points)
        below = tube(points, [(0, 8, -24), (0, 16, -48), (0, 24, -70), (0, 27, -128)], [15, 12, 7, 6])
        # The tentorium and the cisterns part the cerebrum from what lies below it.
        cerebrum = np.minimum(np.minimum(hull, -(cerebellum + 1.6)), -(below + 1.6))

        self._paint_cortex(points, cerebrum, hull, canvas)
        self._paint_deep(points, cerebrum, canvas)
        self._paint_cerebellum(points, cerebellum, canvas)
        canvas.paint(tissue["white"], soft(brainstem))
        canvas.paint(tissue["csf"], soft(ellipsoid(points, (0, 27, -34), (8, 5, 11))))
        self._paint_vessels(points, hull, canvas)
        self._paint_lesions(points, canvas)
        # A trace of structure within tissues, and a slow change across the brain.
        depth = np.clip(hull / 3, 0, 1)
        canvas.intensity *= 1 + depth * (0.012 * self._texture(points) + 0.03 * self._shade(points))

    def _paint_cortex(self, points: Points, cerebrum: Scalar, hull: Scalar, canvas: Canvas) -> None:
        sheet = self._sulci(points, hull)
        gap = 0.45 + 0.35 * np.clip(1 - cerebrum / 16, 0, 1)
        pial = np.minimum(cerebrum, sheet - gap)
        canvas.paint(self._tissue["grey"], soft(pial))
        ribbon = 2.7 + 0.4 * self._shade(points)
        canvas.paint(self._tissue["white"], soft(pial - ribbon, 1.0))

    def _sulci(self, points: Points, depth: Scalar) -> Scalar:
        """Distance from the nearest sulcus, taken as a sheet of no thickness."""
        x, y, z = points
        bent = points + np.stack([3.5 * bend(points) for bend in self._bend])
        # On rays from the middle of the brain the pattern is the same at every depth: sulci run inwards.
        axes = np.array([0.86, 1.12, 0.95], np.float32)[:, None]
        relative = (bent - np.array([0, 4, 8], np.float32)[:, None]) / axes
        radius = np.maximum(np.sqrt(np.sum(relative**2, axis=0)), 15)
        on_sphere = relative * (66 / radius)
        value, gradient = self._folds.with_gradient(on_sphere)
        slope = np.sqrt(np.sum(gradient**2, axis=0)) * (66 / radius)
        away = np.abs(value) / np.maximum(slope, 0.06)
        reach = 17 + 6 * self._undulation(points)
        sulci = np.hypot(away, np.maximum(depth - reach, 0))
        # The fissure between the hemispheres; the corpus callosum bridges it.
        plane = np.abs(x - 1.5 * np.sin(y / 23 + z / 40))
        bridge = ellipsoid(points, (0, 3, 3), (100, 43, 30))
        fissure = np.hypot(plane, np.maximum(bridge, 0))
        # The lateral fissure over the temporal lobe.
        slant = np.abs(z + 8 + 0.75 * (y - 5)) * 0.8
        lateral = np.hypot(slant, np.maximum(40 - np.abs(x), 0))
        lateral = np.hypot(lateral, np.maximum(np.abs(y + 8) - 36, 0))
        return np.asarray(np.minimum(np.minimum(sulci, fissure - 0.5), lateral - 0.3), np.float32)

    def _paint_deep(self, points: Points, cerebrum: Scalar, canvas: Canvas) -> None:
        tissue = self._tissue
        mirrored = _mirrored(points)
        lateral = mirrored[0]
        inner = cerebrum > 12
        # Insula and claustrum: thin sheets of grey matter lateral to the putamen.
        claustrum = 0.7 - np.abs(ellipsoid(mirrored, (25, 2, 3), (11, 22, 19)))
        canvas.paint(tissue["grey"], soft(claustrum) * (lateral > 30) * inner)
        canvas.paint(
            tissue["deep_grey"],
            soft(ellipsoid(mirrored, (24, 1, 3), (6.5, 18, 14), _turned(12))) * inner,
        )
        canvas.paint(
            tissue["pallidum"], soft(ellipsoid(mirrored, (18.5, 4, 1), (4.2, 11, 9), _turned(14))) * inner
        )
        canvas.paint(
            tissue["deep_grey"], soft(ellipsoid(mirrored, (11, 20, 8), (9, 15, 11), _turned(-28))) * inner
        )
        # Lateral ventricles, the left one wider.
        for side, grow in ((1.0, 1.25), (-1.0, 1.0)):
            path = [
                (side * 8.0, -30.0, 8.0),
                (side * 10.0, -18.0, 15.0),
                (side * 11.0, 2.0, 23.0),
                (side * 17.0, 24.0, 21.0),
                (side * 25.0, 40.0, 10.0),
                (side * 24.0, 58.0, 6.0),
            ]
            ventricle = tube(points, path, [1.5, 4.5, 4.2, 4.5, 6.0, 1.2]) + (grow - 1) * 4
            ventricle = np.maximum(
                ventricle,
                tube(
                    points,
                    [(side * 25.0, 40.0, 10.0), (side * 32.0, 28.0, -8.0), (side * 31.0, 4.0, -20.0)],
                    [4.5, 2.4, 1.2],
                ),
            )
            caudate = tube(
                points,
                [(side * 14.5, -24.0, 8.0), (side * 17.0, -8.0, 18.0), (side * 20.0, 14.0, 25.0)],
                [6.5, 5.0, 2.0],
            )
            canvas.paint(tissue["deep_grey"], soft(caudate))
            canvas.paint(tissue["csf"], soft(ventricle))
            plexus = tube(points, [(side * 19.0, 30.0, 19.0), (side * 25.0, 41.0, 9.0)], [1.2, 2.2])
            canvas.paint(tissue["grey"], soft(plexus))
        third = np.minimum(2.2 - np.abs(points[0] - 0.4), ellipsoid(points, (0, 10, 1), (20, 16, 10)))
        canvas.paint(tissue["csf"], soft(third))

    def _paint_cerebellum(self, points: Points, cerebellum: Scalar, canvas: Canvas) -> None:
        x, y, z = points
        # Folia: shells about the fourth ventricle, wavy, 4.5 mm apart.
        shell = np.sqrt((x / 1.7) ** 2 + (y - 18) ** 2 + 1.2 * (z + 36) ** 2)
        fold = np.abs(np.mod(shell + 1.6 * self._texture(points / np.float32(3)), 5.2) - 2.6)
        core = ellipsoid(points, (0, 40, -38), (26, 17, 11))
        gap = np.where(core > -3, 5.0, fold - 0.45)
        canvas.paint(self._tissue["grey"], soft(np.minimum(cerebellum, gap)))
        leaf = np.maximum(core, np.minimum(fold - 1.7, cerebellum - 2))
        canvas.paint(self._tissue["white"], soft(leaf))

    def _paint_vessels(self, points: Points, hull: Scalar, canvas: Canvas) -> None:
        vessel = self._tissue["vessel"]
        x, y, z = points
        sinus = np.minimum(np.minimum(hull + 3.0, 4.2 - hull), 4.5 - np.abs(x - 1) - 0.5 * (hull + 3))
        canvas.paint(vessel, soft(sinus) * ((y > 20) | (z > 50)))
        paths: list[tuple[list[tuple[float, float, float]], list[float]]] = [
            ([(14, -8, -22), (30, -12, -18), (44, -10, -10), (50, 8, 2)], [1.8, 1.6, 1.3, 0.9]),
            ([(-14, -8, -22), (-29, -14, -17), (-45, -9, -9), (-51, 12, 4)], [1.8, 1.6, 1.2, 0.9]),
            ([(1, -14, -20), (2, -40, 0), (2, -36, 30), (1, -5, 44)], [1.3, 1.3, 1.2, 0.8]),
            ([(0, 0, -26), (1, -6, -45), (-3, 4, -62)], [1.9, 1.9, 1.6]),
            ([(2, 60, 2), (1, 38, 14), (1, 30, 10)], [2.0, 1.4, 1.0]),
            ([(14, -10, -22), (15, -20, -60), (22, -5, -128)], [2.6, 2.6, 3.2]),
            ([(-14, -10, -22), (-16, -18, -60), (-23, -5, -128)], [2.6, 2.6, 3.2]),
        ]
        for path, radii in paths:
            canvas.paint(vessel, soft(tube(points, path, radii)))

    def _paint_lesions(self, points: Points, canvas: Canvas) -> None:
        """Bright spots of 2 to 9 mm, three left and one right, and rows of dots of falling size on the right."""
        lesion = self._tissue["lesion"]
        spots = [
            ((27.0, -22.0, 28.0), (4.5, 3.2, 3.5)),
            ((31.0, 28.0, 33.0), (2.4, 3.6, 2.4)),
            ((22.0, 8.0, 36.0), (1.3, 1.6, 1.6)),
            ((-29.0, 40.0, 20.0), (2.6, 2.0, 3.0)),
            ((-20.0, 30.0, -44.0), (3.0, 2.2, 2.2)),
        ]
        for center, semiaxes in spots:
            canvas.paint(lesion, soft(ellipsoid(points, center, semiaxes), 0.9))
        # Enlarged perivascular spaces: rods along z, as a test of resolution.
        dots = self._tissue["csf"]
        for row, radius in enumerate((1.3, 1.0, 0.75, 0.5)):
            for column in range(4):
                x, y = -20.0 - 4 * radius * column, -26.0 + 7.0 * row
                canvas.paint(dots, soft(capsule(points, (x, y, 26), (x - 1, y, 42), radius), 0.4))

    def _paint_markers(self, points: Points, canvas: Canvas) -> None:
        """Oil capsules on the skin: two on the left in front, one on top behind."""
        marker = self._tissue["marker"]
        canvas.paint(marker, soft(capsule(points, (66, -58, 20), (66, -58, 32), 3.5)))
        canvas.paint(marker, soft(capsule(points, (66, -58, -8), (66, -58, 4), 3.5)))
        canvas.paint(marker, soft(ellipsoid(points, (28, 40, 93), (4, 4, 4))))


def _intensity(tissue: str, weighting: Weighting | Property) -> float:
    if weighting in ("t1", "t2", "pd", "flair"):
        return _TISSUES[tissue][0][weighting]
    return _PROPERTIES[tissue][get_args(Property).index(weighting)]


def _skin(points: Points) -> Scalar:
    x, y, z = points
    narrow = 1 - 0.0011 * np.clip(-y, -60, 90)
    shaped = np.stack([x / narrow, y, z])
    vault = ellipsoid(shaped, (0, 3, 10), (79, 101, 89))
    face = ellipsoid(points, (0, -38, -62), (57, 58, 72))
    neck = tube(points, [(0, 25, -50), (0, 28, -140)], [62, 56])
    nose = tube(points, [(0, -88, -38), (0, -105, -62)], [5, 9])
    ear = ellipsoid(_mirrored(points), (80, 14, -28), (5, 12, 24), _turned(20))
    head = smooth_union(smooth_union(vault, face, 14), neck, 18)
    return smooth_union(smooth_union(head, nose, 8), ear, 4)


def _brain_hull(points: Points) -> Scalar:
    x, y, z = points
    narrow = 1 - 0.0013 * np.clip(-y - 5, -50, 85)
    # The occipital pole reaches further back on the left, the frontal one further forward on the right.
    shaped = np.stack([x / narrow, y - 0.035 * x, z])
    cerebrum = ellipsoid(shaped, (0, 3, 15), (65, 85, 62))
    temporal = ellipsoid(_mirrored(points), (41, -10, -20), (21, 34, 19))
    low = smooth_union(cerebrum, temporal, 6)
    return smooth_union(low, _cerebellum(points) + 1.5, 8)


def _cerebellum(points: Points) -> Scalar:
    halves = ellipsoid(_mirrored(points), (22, 46, -40), (31, 30, 21))
    return smooth_union(halves, ellipsoid(points, (0, 40, -38), (22, 24, 24)), 4)


def _mirrored(points: Points) -> Points:
    return np.stack([np.abs(points[0]), points[1], points[2]])


def _turned(degrees: float) -> npt.NDArray[np.float64]:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
