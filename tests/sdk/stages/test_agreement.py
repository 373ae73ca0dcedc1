"""Coil maps that do not fit the calibration lines are told, with the place, and no learned image is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from scanside import Context, KSpace
from scanside.recon.combine import root_sum_of_squares
from scanside.recon.fourier import to_image
from scanside.scan import Scan
from scanside.simulate import CoilConfig, GeometryConfig, NoiseConfig, PhantomConfig, SamplingConfig
from scanside.stages._agreement import MapCheck
from scanside.stages.coil_maps import CoilMaps
from scanside.stages.engine import RunEngine
from scanside.stages.sense import Sense

WRONG: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "conjugated": lambda maps: maps.conj().resolve_conj(),
    "another order of the coils": lambda maps: maps.roll(1, 0),
    "another position": lambda maps: maps.roll(12, -2),
    "turned": lambda maps: maps.flip(-1),
}


@pytest.fixture
def mapped(accumulated: Any, run_stage: Any) -> Callable[..., tuple[bytes, KSpace]]:
    """The header and the k-space of a head, with maps of a setting; the field of view may be too small for it."""

    def make(
        fov_mm: tuple[float, float, float] = (240.0, 240.0, 6.0), **settings: Any
    ) -> tuple[bytes, KSpace]:
        scan, (item,), _ = accumulated(
            sampling=SamplingConfig(acceleration=(2, 1), acs=(24, 0)),
            geometry=GeometryConfig(matrix=(64, 64, 1), fov_mm=fov_mm, offset_mm=(0.0, 0.0, 20.0)),
            phantom=PhantomConfig(saturated=False),
            coils=CoilConfig(n_coils=6),
            noise=NoiseConfig(std=0.01, scan="none"),
        )
        item = run_stage(CoilMaps(**{"method": "espirit", **settings}), scan.header_xml, [item]).one
        return scan.header_xml, item

    return make


@pytest.mark.parametrize("method", ["espirit", "inati", "walsh"])
@pytest.mark.parametrize("fov_mm", [(240.0, 240.0, 6.0), (240.0, 150.0, 6.0)], ids=["inside", "folded"])
def test_maps_of_the_scan_agree(mapped: Any, method: str, fov_mm: tuple[float, float, float]) -> None:
    _, item = mapped(fov_mm, method=method)
    agreement = MapCheck().of(item)
    assert agreement is not None
    assert not agreement.is_wrong
    if fov_mm[1] > 200 or method == "espirit":
        assert agreement.flaw is None
        assert agreement.explained > 0.99


@pytest.mark.parametrize("how", WRONG)
def test_wrong_maps_are_told_and_no_learned_image_goes_out(
    mapped: Any, learned_bundles: Any, how: str
) -> None:
    header, item = mapped()
    stage = RunEngine(bundle="exact", backend="eager", n_coils=(6,), check="none", residual=None)
    stage.prepare(Context(device="cpu"))
    scan = Scan.from_xml(header)
    stage.open(scan)
    (image,) = stage.process(item)
    assert "ScansideFallback" not in image.meta
    assert float(image.meta["ScansideMaps"][0].split()[0]) > 0.99
    told = list(scan.warnings)
    for _ in range(2):
        (image,) = stage.process(item.replace(coil_maps=WRONG[how](item.coil_maps)))
        assert image.meta["ScansideFallback"][:2] == ["fourier", "maps"]
        assert "not those of this scan" in image.meta["ScansideFallback"][2]
        expected = root_sum_of_squares(to_image(item.data))
        torch.testing.assert_close(image.data[0].abs(), expected, rtol=1e-4, atol=1e-4)
    (warning,) = [text for text in scan.warnings if text not in told]
    assert "along the phase encoding" in warning
    assert "mm" in warning
    assert scan.metrics["engine.fallback.maps"] == 2
    stage.close()


def test_sense_tells_wrong_maps(mapped: Any, run_stage: Any) -> None:
    header, item = mapped()
    ran = run_stage(Sense(), header, [item.replace(coil_maps=item.coil_maps.conj().resolve_conj())])
    assert any("they are not those of this scan" in text for text in ran.scan.warnings)
    assert float(ran.one.meta["ScansideMaps"][0].split()[0]) < 0.9
    fine = run_stage(Sense(), header, [item])
    assert fine.scan.warnings == []
    assert float(fine.one.meta["ScansideMaps"][0].split()[0]) > 0.99


def test_tissue_without_maps_is_told_with_its_place(mapped: Any, learned_bundles: Any) -> None:
    header, item = mapped()
    maps = item.coil_maps.clone()
    maps[..., 14:26, 34:46] = (
        0  # their middle lies 12 voxels before that of the image and 8 beside, of 3.75 mm
    )
    stage = RunEngine(bundle="exact", backend="eager", n_coils=(6,), check="none", residual=None)
    stage.prepare(Context(device="cpu"))
    scan = Scan.from_xml(header)
    stage.open(scan)
    (image,) = stage.process(item.replace(coil_maps=maps))
    (flaw,) = [text for text in image.meta["ScansideFitness"] if "unexplained" in text]
    along_phase, along_readout = (float(part.split()[-1]) for part in flaw.split(" mm (")[:2])
    assert abs(along_phase + 45) < 20
    assert abs(along_readout - 30) < 20
    assert flaw in " ".join(scan.warnings)
    stage.close()


def test_maps_are_compared_once(mapped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import scanside.stages._agreement as module

    _, item = mapped()
    check, made = MapCheck(), []
    compare = module.explained
    monkeypatch.setattr(module, "explained", lambda *given: made.append(1) or compare(*given))
    first = check.of(item)
    assert check.of(item) is first
    assert len(made) == 1
    item.coil_maps.mul_(1)
    assert check.of(item) is not first


def test_without_calibration_lines_there_is_nothing_to_compare_with(mapped: Any) -> None:
    _, item = mapped()
    mask = item.mask.clone()
    mask[:, 1::2] = False
    assert MapCheck().of(item.replace(mask=mask, reference=None)) is None
    mask[:, 30:35] = True
    assert MapCheck().of(item.replace(mask=mask, reference=None)) is None
