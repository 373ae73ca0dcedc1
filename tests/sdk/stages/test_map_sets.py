"""Two sets of coil maps between stages: made where they are needed, solved for by SENSE and beside networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, KSpace
from scanside.errors import ConfigError
from scanside.items import Calibration
from scanside.metrics import psnr
from scanside.recon.columns import on_grid
from scanside.recon.combine import combine_sets, root_sum_of_squares
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import noise_level
from scanside.recon.scaling import image_scale
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    PhantomConfig,
    SamplingConfig,
)
from scanside.stages.coil_maps import CoilMaps
from scanside.stages.engine import RunEngine
from scanside.stages.fourier import Fourier
from scanside.stages.sense import Sense
from scanside.testing import small_kspace, small_scan

FIELDS = {"phase": (240.0, 150.0, 6.0), "readout": (110.0, 240.0, 6.0), "none": (240.0, 240.0, 6.0)}
ACCELERATED = SamplingConfig(acceleration=(3, 1), acs=(24, 0))


def scan_of(accumulated: Any, direction: str, sampling: SamplingConfig = ACCELERATED, **parts: Any) -> Any:
    """The scan of a head, and its k-space, in a field of view that is too small along a direction."""
    settings: dict[str, Any] = {
        "geometry": GeometryConfig(matrix=(96, 96, 1), fov_mm=FIELDS[direction], offset_mm=(0.0, 0.0, 20.0)),
        "phantom": PhantomConfig(saturated=False),
        "coils": CoilConfig(n_coils=8),
        "noise": NoiseConfig(std=0.01, scan="none"),
        **parts,
    }
    scan, (item,), _ = accumulated(sampling=sampling, **settings)
    return scan, item


def truth_of(accumulated: Any, direction: str, **parts: Any) -> np.ndarray[Any, Any]:
    """The root sum of squares of coil images without noise, of all lines."""
    _, item = scan_of(
        accumulated, direction, SamplingConfig(), noise=NoiseConfig(std=0.0, scan="none"), **parts
    )
    return root_sum_of_squares(to_image(item.data)).numpy()


@pytest.mark.parametrize("direction", FIELDS)
def test_a_second_set_where_the_object_does_not_end_inside(
    accumulated: Any, run_stage: Any, direction: str
) -> None:
    scan, item = scan_of(accumulated, direction)
    made = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item]).one
    one = run_stage(CoilMaps(method="espirit", sets=1), scan.header_xml, [item]).one
    assert one.second_maps is None
    if direction == "none":
        assert made.second_maps is None
        assert torch.equal(made.coil_maps, one.coil_maps)
        assert "ScansideMapSets" not in made.meta
        return
    assert made.meta["ScansideMapSets"][0] == "2"
    twice = (made.second_maps != 0).any(0)[0]
    assert 0.02 < twice.float().mean() < 0.5
    assert torch.equal(made.coil_maps[:, 0, ~twice], one.coil_maps[:, 0, ~twice])
    # It lies at the edge that cuts the object, and nowhere in the middle.
    along = twice.any(-1 if direction == "phase" else 0)
    assert bool(along[0])
    assert bool(along[-1])
    assert not bool(along[40:56].any())


@pytest.mark.parametrize("solver", ["cg", "columns"])
@pytest.mark.parametrize(("direction", "gain"), [("phase", 5.0), ("readout", 0.3)])
def test_sense_solves_for_both(
    accumulated: Any, run_stage: Any, direction: str, gain: float, solver: str
) -> None:
    scan, item = scan_of(accumulated, direction)
    truth = truth_of(accumulated, direction)
    decibels = {}
    for sets in (1, "auto"):
        mapped = run_stage(CoilMaps(method="espirit", sets=sets), scan.header_xml, [item]).one
        image = run_stage(Sense(solver=solver), scan.header_xml, [mapped]).one
        assert image.data.is_complex()
        decibels[sets] = psnr(image.data[0].abs().numpy(), truth)
    assert decibels["auto"] > decibels[1] + gain
    assert decibels["auto"] > psnr(root_sum_of_squares(to_image(item.data)).numpy(), truth)


def test_both_solvers_agree_in_every_frame(accumulated: Any, run_stage: Any) -> None:
    scan, items, _ = accumulated(
        sampling=ACCELERATED,
        geometry=GeometryConfig(matrix=(48, 64, 1), fov_mm=FIELDS["phase"], offset_mm=(0.0, 0.0, 20.0)),
        phantom=PhantomConfig(saturated=False),
        coils=CoilConfig(n_coils=8),
        dynamics=DynamicsConfig(sets=2),
        settings={"together": ["set"]},
    )
    (item,) = items
    assert item.data.shape[0] == 2
    (mapped,) = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item]).items
    assert mapped.second_maps is not None
    settings = {"tolerance": 1e-6, "max_iterations": 1000}
    by_cg = run_stage(Sense(**settings), scan.header_xml, [mapped]).items
    by_columns = run_stage(Sense(solver="columns"), scan.header_xml, [mapped]).items
    assert len(by_cg) == len(by_columns) == 2
    for one, other in zip(by_cg, by_columns, strict=True):
        assert (one.data.abs() - other.data.abs()).norm() < 2e-3 * one.data.norm()
    assert (by_cg[0].data - by_cg[1].data).norm() > 0.05 * by_cg[0].data.norm()


def test_one_sided_sampling_is_completed_with_both(accumulated: Any, run_stage: Any) -> None:
    partial = SamplingConfig(acceleration=(2, 1), acs=(24, 0), partial_fourier=(0.7, 1.0))
    quiet = NoiseConfig(std=0.0, scan="none")
    scan, item = scan_of(accumulated, "phase", partial, noise=quiet)
    truth = truth_of(accumulated, "phase")
    mapped = run_stage(CoilMaps(method="espirit"), scan.header_xml, [item]).one
    assert mapped.second_maps is not None
    completed, left = (
        run_stage(Sense(partial_fourier=how), scan.header_xml, [mapped]).one for how in ("pocs", "none")
    )
    assert completed.meta["ScansidePartialFourier"] == ["pocs", "k1"]
    gain = psnr(completed.data[0].abs().numpy(), truth) - psnr(left.data[0].abs().numpy(), truth)
    assert gain > 1.0


def test_matched_filter_of_both_sets(accumulated: Any, run_stage: Any) -> None:
    scan, item = scan_of(accumulated, "phase", SamplingConfig())
    truth = truth_of(accumulated, "phase")
    decibels = {}
    for sets in (1, "auto"):
        mapped = run_stage(CoilMaps(method="espirit", sets=sets), scan.header_xml, [item]).one
        image = run_stage(Fourier(combine="maps"), scan.header_xml, [mapped]).one
        decibels[sets] = psnr(image.data[0].abs().numpy(), truth)
    assert decibels["auto"] > decibels[1] + 8


def test_two_sets_of_another_method_are_refused() -> None:
    with pytest.raises(ConfigError, match="two sets of maps need method 'espirit'"):
        CoilMaps(method="walsh", sets=2)


@pytest.fixture(scope="module")
def prepared(learned_bundles: Any) -> RunEngine:
    stage = RunEngine(bundle="exact", backend="eager", n_coils=(4,))
    stage.prepare(Context(device="cpu"))
    return stage


@pytest.fixture
def stage(prepared: RunEngine) -> Iterator[RunEngine]:
    prepared.open(small_scan())
    yield prepared
    prepared.close()


def item_of_two() -> KSpace:
    """A small k-space whose second set sees two parts of the image."""
    item = small_kspace(coil_maps=True)
    assert item.coil_maps is not None
    other = item.coil_maps.flip(0).conj()
    along = torch.linalg.vecdot(item.coil_maps, other, dim=0)
    other = other - item.coil_maps * along
    other = other / torch.linalg.vector_norm(other, dim=0).clamp(min=1e-6)
    sees = torch.zeros(24, 24, dtype=torch.bool)
    sees[9:14, 6:18] = sees[:4, 3:9] = True
    second = (other * sees).to(torch.complex64)
    over_it = 0.5 * torch.randn(1, 24, 24, dtype=torch.complex64, generator=torch.Generator().manual_seed(4))
    data = item.data + to_kspace(second * over_it) * item.mask[..., None]
    return item.replace(data=data, second_maps=second)


def test_network_sees_one_image_and_the_second_is_what_it_leaves(stage: RunEngine) -> None:
    """Against the joint problem of each column, by a dense matrix in double precision.

    The network of the test's bundle is one cascade: its input ``z = Aᴴ y`` of the first set, pulled to the data.
    """
    item = item_of_two()
    assert item.coil_maps is not None
    assert item.second_maps is not None
    (image,) = stage.process(item)
    assert "ScansideFallback" not in image.meta
    mask = item.mask[0].double()
    sets = torch.stack((item.coil_maps, item.second_maps))[:, :, 0].to(torch.complex128)
    n1, n0 = sets.shape[-2:]
    adjoint = (sets.conj() * to_image(item.data[:, 0].to(torch.complex128) * mask[:, None])).sum(1)
    noise = noise_level(item.data[:, 0], item.mask[0]) / image_scale(adjoint[0], 0.99)
    weight = on_grid(min(max(4 * float(noise) ** 2, 0.01), 1))
    transform = to_kspace(torch.eye(n1, dtype=torch.complex128), dims=(-2,))
    x = torch.zeros(2, n1, n0, dtype=torch.complex128)
    for column in range(n0):
        a = torch.cat(
            [
                torch.cat([mask[:, None] * transform * coil[:, column] for coil in one_set])
                for one_set in sets
            ],
            dim=1,
        )
        right = adjoint[:, :, column] + weight * torch.stack((adjoint[0, :, column], torch.zeros(n1)))
        normal = a.mH @ a + weight * torch.eye(2 * n1, dtype=a.dtype)
        x[..., column] = torch.linalg.solve(normal, right.flatten()).reshape(2, n1)
    wanted = combine_sets(x)
    assert float((image.data[0, 0] - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    alone = stage.process(item.replace(second_maps=None))
    assert float((next(iter(alone)).data[0, 0] - wanted).abs().max()) > 0.05 * float(wanted.abs().max())


def test_columns_of_both_are_begun_with_the_calibration_lines(stage: RunEngine, made_by: list[str]) -> None:
    item = item_of_two()
    item.data[..., :2] = item.data[..., -2:] = 0  # the ends of readouts tell the noise: there is none
    assert list(stage.process(Calibration(item, item.mask))) == []
    list(stage.process(item))
    assert len(made_by) == 2, "of both sets beforehand, and of the second one alone"


def test_a_network_that_takes_one_set_leaves_the_image_to_sense(learned_bundles: Any) -> None:
    stage = RunEngine(bundle="gradient", backend="eager", n_coils=(4,))
    stage.prepare(Context(device="cpu"))
    stage.open(small_scan())
    item = item_of_two()
    (image,) = stage.process(item)
    name, why, text = image.meta["ScansideFallback"]
    assert (name, why) == ("sense", "unfit")
    assert "one set of coil maps" in text
    expected = Sense(l2_noise=10)
    expected.open(small_scan())
    (classical,) = expected.process(item)
    torch.testing.assert_close(image.data, classical.data)
    (without,) = stage.process(small_kspace(coil_maps=True))
    assert "ScansideFallback" not in without.meta
    stage.close()


@pytest.mark.parametrize("consistency", [None, 4.0])
def test_a_network_that_improves_sense_sees_one_image_of_both(
    learned_bundles: Any, consistency: float | None
) -> None:
    stage = RunEngine(
        bundle="smooth", backend="eager", n_coils=(4,), residual=None, consistency=consistency, check="lines"
    )
    stage.prepare(Context(device="cpu"))
    stage.open(small_scan())
    item = item_of_two()
    (image,) = stage.process(item)
    assert "ScansideFallback" not in image.meta
    sense = Sense(l2_noise=10)
    sense.open(small_scan())
    (classical,) = sense.process(item)
    seen = classical.data
    smooth = seen + 0.25 * (seen.roll(1, -1) + seen.roll(-1, -1) - 2 * seen)
    assert bool(item.second_maps.any())
    if consistency is None:
        torch.testing.assert_close(image.data, smooth, rtol=1e-4, atol=1e-4)
        assert float(image.meta.first("ScansideDataConsistency")) > 0.05
    else:  # pulled back to the lines, both images of it
        assert float((image.data - seen).norm()) < 0.5 * float((smooth - seen).norm())
        assert float(image.meta.first("ScansideDataConsistency")) < 0.05
    stage.close()
