"""All patterns by name: the same on every machine, within their limits, and refused where they cannot be."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from scanside.errors import ConfigError
from scanside.sampling import LINES, PLANES, SERIES, Limits, Mask, Space, generator
from scanside.sampling.patterns import line_mask, plane_mask, series_mask

pytestmark = pytest.mark.torch_free

ALL = [
    (kind, name)
    for kind, known in (("lines", LINES), ("plane", PLANES), ("series", SERIES))
    for name in known
]

HASHES = {
    ("lines", "equispaced"): "0eb1f52c2e308430",
    ("lines", "equispaced-fraction"): "1c3b5ff02a9bbe63",
    ("lines", "random"): "f08f70e38615c7ff",
    ("lines", "fastmri-random"): "8ef501f564be36a6",
    ("lines", "magic"): "c24c7951f5fa440a",
    ("lines", "magic-fraction"): "f2ea89f4ca8ec897",
    ("lines", "variable-density"): "865aba349bc6b88a",
    ("lines", "gaussian"): "d4fa2f67a00edb0f",
    ("lines", "centre"): "af0f1377e815c55e",
    ("plane", "random"): "a39c30d68c85ce7e",
    ("plane", "variable-density"): "179a3ac1535fea75",
    ("plane", "gaussian"): "177469e4f74a1623",
    ("plane", "poisson"): "b44546813f4efa6a",
    ("plane", "poisson-uniform"): "e5d19f44879a95ab",
    ("plane", "circus-radial"): "42de9c273253980c",
    ("plane", "circus-spiral"): "9c806cc85e0b4dce",
    ("plane", "radial"): "08f7ee675481c06a",
    ("series", "kt-uniform"): "81cace981683ed72",
    ("series", "kt-gaussian"): "58dc85b45add9c57",
    ("series", "kt"): "81cace981683ed72",
    ("series", "golden"): "2b9a08d76b1a7266",
    ("series", "variable-density"): "8f7b07976117f082",
    ("series", "kt-radial"): "9294961c2f5e527c",
}
"""Of four masks each, by SHA-256."""


def drawn(kind: str, name: str, limits: Limits, seed: int) -> tuple[Mask, Space]:
    if kind == "plane" or name == "kt-radial":
        space = Space.of(limits.region((96, 75)), (12, 10))
    else:
        space = Space.of(limits.region((201,)), (16,))
    if kind == "series":
        return series_mask(name, space, 5, acceleration=6, rng=generator(seed)), space
    draw = line_mask if kind == "lines" else plane_mask
    return draw(name, space, acceleration=6, rng=generator(seed)), space


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_seed_gives_the_same_mask_everywhere(kind: str, name: str) -> None:
    """Whoever breaks this has changed the masks of everybody's trainings and benchmarks."""
    digest = hashlib.sha256()
    for seed in range(4):
        mask, _ = drawn(kind, name, Limits((0.875, 1.0), "late"), seed)
        digest.update(np.packbits(mask).tobytes())
    assert digest.hexdigest()[:16] == HASHES[kind, name]


@pytest.mark.parametrize(("kind", "name"), ALL)
@pytest.mark.parametrize("side", ["early", "late"])
def test_limits_go_with_every_pattern(kind: str, name: str, side: str) -> None:
    planes = kind == "plane" or name == "kt-radial"
    limits = Limits((0.75, 0.875 if planes else 1.0), side, elliptical=planes)  # type: ignore[arg-type]
    mask, space = drawn(kind, name, limits, 3)
    assert not (mask & ~space.region).any()
    assert (mask | ~space.block).all()
    assert mask.any()


@pytest.mark.parametrize(("kind", "name"), [one for one in ALL if one[1] != "centre"])
def test_seeds_decide(kind: str, name: str) -> None:
    masks = [drawn(kind, name, Limits(), seed)[0] for seed in range(6)]
    assert any((mask != masks[0]).any() for mask in masks)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_centre_counts_where_it_is_said_to(kind: str, name: str) -> None:
    pattern = {"lines": LINES, "plane": PLANES, "series": SERIES}[kind][name]
    counted, beside = [], []
    for seed in range(40 if kind != "plane" else 4):
        mask, space = drawn(kind, name, Limits(), seed)
        n_frames = mask.size // space.region.size
        counted.append(n_frames * space.n_places / mask.sum())
        beside.append(n_frames * (~space.block).sum() / (mask & ~space.block).sum())
    if pattern.counts_acs:
        assert np.mean(counted) == pytest.approx(6, rel=0.1)
        assert name == "centre" or np.mean(beside) > 6.5
    else:
        assert np.mean(beside) == pytest.approx(6, rel=0.35)
        assert np.mean(counted) < 5.9


LINE = Space.of(np.ones(64, bool), (8,))
PLANE = Space.of(np.ones((64, 48), bool), (8, 8))


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no sampling pattern 'poison' .*: did you mean 'poisson'"):
        plane_mask("poison", PLANE, acceleration=4, rng=generator(0))
    with pytest.raises(
        ConfigError, match=r"no sampling pattern 'poisson' of lines: it is one of points of a plane"
    ):
        line_mask("poisson", LINE, acceleration=4, rng=generator(0))
    with pytest.raises(ConfigError, match=r"no sampling pattern 'spokes' of a series: known are kt-uniform"):
        series_mask("spokes", LINE, 4, acceleration=4, rng=generator(0))


def test_matrices_of_another_kind_are_refused() -> None:
    with pytest.raises(ConfigError, match="along 1 phase encodings, and the matrix has 2"):
        line_mask("random", PLANE, acceleration=4, rng=generator(0))
    with pytest.raises(ConfigError, match="along 2 phase encodings, and the matrix has 1"):
        plane_mask("random", LINE, acceleration=4, rng=generator(0))


@pytest.mark.parametrize("acceleration", [0.5, 0.0, -2.0, float("nan")])
def test_accelerations_below_one_are_refused(acceleration: float) -> None:
    for draw, space in ((line_mask, LINE), (plane_mask, PLANE)):
        with pytest.raises(ConfigError, match="at least 1"):
            draw("random", space, acceleration=acceleration, rng=generator(0))
    with pytest.raises(ConfigError, match="at least 1"):
        series_mask("kt-gaussian", LINE, 3, acceleration=acceleration, rng=generator(0))


EVERY_RTH = ("equispaced", "magic", "kt", "kt-uniform")
"""Of few lines these may have none, but for the centre."""


@pytest.mark.parametrize(
    ("kind", "name"), [one for one in ALL if one[1] not in EVERY_RTH and one[0] != "series"]
)
def test_more_than_the_matrix_has_is_refused(kind: str, name: str) -> None:
    draw, shape = (line_mask, (12,)) if kind == "lines" else (plane_mask, (6, 6))
    space = Space.of(np.ones(shape, bool), (0,) * len(shape))
    with pytest.raises(ConfigError, match=r"leaves nothing of .*: lower it, or enlarge the matrix"):
        draw(name, space, acceleration=100, rng=generator(0))


@pytest.mark.parametrize("name", SERIES)
def test_more_than_a_frame_has_is_refused(name: str) -> None:
    shape = (6, 6) if name == "kt-radial" else (12,)
    space = Space.of(np.ones(shape, bool), (0,) * len(shape))
    with pytest.raises(ConfigError, match=r"leaves nothing of .*: lower it, or enlarge the matrix"):
        series_mask(name, space, 3, acceleration=100, rng=generator(0))
