"""Networks whose data consistency is solved for each column: the right image, from engines for any coils."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Image, KSpace
from scanside.items import Calibration
from scanside.recon.columns import on_grid
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import noise_level
from scanside.recon.scaling import image_scale
from scanside.stages.engine import RunEngine
from scanside.testing import small_kspace, small_scan

pytestmark = pytest.mark.usefixtures("learned_bundles")


@pytest.fixture(scope="module")
def prepared(learned_bundles: Any) -> RunEngine:
    stage = RunEngine(bundle="exact", backend="eager", n_coils=(4, 6))
    stage.prepare(Context(device="cpu"))
    return stage


@pytest.fixture
def stage(prepared: RunEngine) -> Iterator[RunEngine]:
    prepared.open(small_scan())
    yield prepared
    prepared.close()


def run(stage: RunEngine, item: KSpace) -> Image:
    (image,) = stage.process(item)
    assert "ScansideFallback" not in image.meta, image.meta["ScansideFallback"]
    return image


def expected(item: KSpace) -> torch.Tensor:
    """``(Aᴴ A + λ) x = Aᴴ y + λ Aᴴ y`` for each column by a dense matrix in double precision, and no other code."""
    assert item.coil_maps is not None
    maps, mask = item.coil_maps[:, 0].to(torch.complex128), item.mask[0].double()
    n1, n0 = maps.shape[-2:]
    adjoint = (maps.conj() * to_image(item.data[:, 0].to(torch.complex128) * mask[:, None])).sum(0)
    noise = noise_level(item.data[:, 0], item.mask[0]) / image_scale(adjoint, 0.99)
    weight = on_grid(min(max(4 * float(noise) ** 2, 0.01), 1))
    x = torch.zeros(n1, n0, dtype=torch.complex128)
    transform = to_kspace(torch.eye(n1, dtype=torch.complex128), dims=(-2,))
    for column in range(n0):
        a = torch.cat([mask[:, None] * transform * one[:, column] for one in maps])
        right = (1 + weight) * adjoint[:, column]
        normal = a.mH @ a + weight * torch.eye(n1, dtype=a.dtype)
        x[:, column] = torch.from_numpy(np.linalg.solve(normal.numpy(), right.numpy()))
    return x * (maps.abs().sum(0) > 0)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_image_is_the_exact_solution(stage: RunEngine, scale: float) -> None:
    item = small_kspace(coil_maps=True)
    item = item.replace(data=scale * item.data)
    result = run(stage, item).data[0, 0] / scale
    wanted = expected(item) / scale
    assert float((result - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())
    assert stage._scan.warnings == []


def test_voxels_that_no_coil_sees_are_zero(stage: RunEngine) -> None:
    item = small_kspace(coil_maps=True)
    assert item.coil_maps is not None
    maps = item.coil_maps.clone()
    maps[..., 3:7, 5:9] = 0
    maps[..., 20:] = 0
    item = item.replace(coil_maps=maps)
    result, wanted = run(stage, item).data[0, 0], expected(item)
    assert not bool(result[3:7, 5:9].any())
    assert not bool(result[:, 20:].any())
    assert float((result - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def test_one_engine_serves_all_numbers_of_coils(stage: RunEngine) -> None:
    """It was prepared for 4 and 6: that is one, and the coils of 3 go through it too."""
    assert len(stage.engines) == 1
    assert stage.engines[0].n_coils is None
    item = small_kspace(coil_maps=True)
    assert item.coil_maps is not None
    fewer = item.replace(data=item.data[:3], coil_maps=item.coil_maps[:3])
    result, wanted = run(stage, fewer).data[0, 0], expected(fewer)
    assert float((result - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())


def test_repetitions_factorise_once(stage: RunEngine, made_by: list[str]) -> None:
    item = small_kspace(coil_maps=True)
    first = run(stage, item)
    again = run(stage, item.replace(data=1.001 * item.data))
    assert len(made_by) == 1
    torch.testing.assert_close(again.data, 1.001 * first.data)
    other = item.mask.clone()
    other[:, int(item.mask[0].nonzero()[0])] = False
    run(stage, item.replace(mask=other))
    assert len(made_by) == 2
    stage.close()
    stage.open(small_scan())
    run(stage, item)
    assert len(made_by) == 3, "what was made for a scan's maps outlived the scan"


def test_quiet_scans_are_factorised_while_their_lines_come(
    stage: RunEngine, made_by: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the smallest λ nothing is left to factorise for the image; after another one, nothing is begun."""
    quiet = small_kspace(coil_maps=True)
    quiet.data[..., :2] = quiet.data[..., -2:] = 0  # the ends of readouts tell the noise
    coming = Calibration(quiet, quiet.mask)
    assert list(stage.process(coming)) == []
    run(stage, quiet)
    assert [name != threading.current_thread().name for name in made_by] == [True]
    with monkeypatch.context() as patch:
        patch.setattr("scanside.stages._learned.column_weight", lambda form, noise: 0.02)
        run(stage, quiet)
    assert [name != threading.current_thread().name for name in made_by] == [True, False], "of another weight"
    stage._networks[0]._columns.close()
    assert list(stage.process(coming)) == []
    assert [name != threading.current_thread().name for name in made_by] == [True, False], (
        "begun for a weight that had turned out wrong"
    )


def test_empty_kspace_is_told(stage: RunEngine) -> None:
    item = small_kspace(coil_maps=True)
    image = run(stage, item.replace(data=torch.zeros_like(item.data)))
    assert not bool(image.data.any())
    assert "zero" in str(image.meta["ScansideEmpty"])
