"""Images of another contrast on the grid of a scan, against the same object scanned there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside import KSpace, Scan
from scanside.items import Calibration
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.messages import ImageMessage
from scanside.recon.fourier import to_image
from scanside.recon.scaling import image_scale
from scanside.simulate import CoilConfig, GeometryConfig, PhantomConfig
from scanside.stage import StageConfigError
from scanside.stages._images import images_of
from scanside.stages.other_contrasts import OtherContrasts

HERE = GeometryConfig(matrix=(64, 60, 1), fov_mm=(240.0, 216.0, 6.0), offset_mm=(0.0, 0.0, 16.0))
COIL = CoilConfig(n_coils=1, model="uniform")


@pytest.fixture
def scanned(accumulated: Any) -> Any:
    """The k-space of a head with a contrast, and the header of its scan."""

    def make(weighting: str, geometry: GeometryConfig = HERE) -> tuple[KSpace, bytes]:
        phantom = PhantomConfig(weighting=weighting)
        scan, (item,), _ = accumulated(geometry=geometry, phantom=phantom, coils=COIL)
        return item, scan.header_xml

    return make


def image_of(item: KSpace) -> torch.Tensor:
    """``(z, y, x)``, magnitude, scaled."""
    image = to_image(item.data, (-3, -2, -1))[0].abs()
    return image / image_scale(image)[:, None, None]


def written(path: Path, xml: bytes, items: Sequence[KSpace]) -> Path:
    scan = Scan.from_xml(xml)
    with Hdf5Writer(path) as writer:
        for item in items:
            for image in images_of(scan, item, to_image(item.data, (-3, -2, -1))[..., 0, :, :, :]):
                writer.write(ImageMessage.from_array(image.data.numpy(), b"", image.header))
    return path


def likeness(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1])


def test_the_image_of_the_same_slice_is_taken_as_it_is(scanned: Any, run_stage: Any, tmp_path: Path) -> None:
    before, scan = scanned("t1")
    beside, _ = scanned("t1", HERE.model_copy(update={"offset_mm": (0.0, 0.0, 22.0)}))
    item, now = scanned("t2")
    path = written(tmp_path / "t1.h5", scan, [beside, before])
    ran = run_stage(OtherContrasts(images={"t1": path}), now, [item])
    found = ran.one.contrasts
    assert set(found) == {"t1"}
    assert found["t1"].shape == (1, 60, 64)
    assert found["t1"].dtype == torch.float32
    assert torch.allclose(found["t1"], image_of(before), atol=1e-4)
    assert float(image_scale(found["t1"])) == pytest.approx(1)
    assert not ran.scan.warnings


@pytest.mark.parametrize(
    "changes",
    [
        {"matrix": (96, 80, 1), "fov_mm": (270.0, 240.0, 6.0)},
        {"in_plane_deg": 25.0},
        {"in_plane_deg": 90.0, "matrix": (72, 90, 1)},
        {"left_handed": True, "offset_mm": (6.0, -9.0, 16.0)},
    ],
    ids=["grid", "turned", "swapped", "handed"],
)
def test_another_grid_in_the_plane_is_interpolated(
    scanned: Any, run_stage: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    before, scan = scanned("t1", HERE.model_copy(update=changes))
    item, now = scanned("t2")
    path = written(tmp_path / "t1.h5", scan, [before])
    found = run_stage(OtherContrasts(images={"t1": path}), now, [item]).one.contrasts["t1"]
    truth = image_of(scanned("t1")[0])
    assert likeness(found, truth) > 0.97
    # A voxel off, or the other way round, would be worse: the bound bites.
    assert likeness(found.roll(1, -1), truth) < likeness(found, truth) - 0.01
    assert likeness(found.flip(-1), truth) < 0.9


def test_a_slice_of_a_volume_is_cut_out(scanned: Any, run_stage: Any, tmp_path: Path) -> None:
    slab = HERE.model_copy(update={"matrix": (64, 60, 8), "fov_mm": (240.0, 216.0, 48.0)})
    before, scan = scanned("t1", slab)
    path = written(tmp_path / "t1.h5", scan, [before])
    tilted = HERE.model_copy(update={"rotation_deg": (10.0, 0.0, 0.0)})
    item, now = scanned("t2", tilted)
    ran = run_stage(OtherContrasts(images={"t1": path}), now, [item])
    found = ran.one.contrasts["t1"]
    truth, flat = (image_of(scanned("t1", geometry)[0]) for geometry in (tilted, HERE))
    assert likeness(found, truth) > 0.95
    assert likeness(found, flat) < likeness(found, truth) - 0.02
    beyond, now = scanned("t2", HERE.model_copy(update={"offset_mm": (0.0, 0.0, 60.0)}))
    assert run_stage(OtherContrasts(images={"t1": path}), now, [beyond]).one.contrasts == {}


@pytest.mark.parametrize(
    ("changes", "apart"),
    [({"offset_mm": (0.0, 0.0, 19.0)}, "3.0 mm"), ({"rotation_deg": (8.0, 0.0, 0.0)}, "mm apart")],
    ids=["beside", "tilted"],
)
def test_another_plane_is_not_taken(
    scanned: Any, run_stage: Any, tmp_path: Path, changes: dict[str, Any], apart: str
) -> None:
    before, scan = scanned("t1", HERE.model_copy(update=changes))
    item, now = scanned("t2")
    path = written(tmp_path / "t1.h5", scan, [before])
    ran = run_stage(OtherContrasts(images={"t1": path}), now, [item, item])
    assert [one.contrasts for one in ran.items] == [{}, {}]
    (told,) = ran.scan.warnings
    assert "no image of contrast 't1' lies in the plane" in told
    assert apart in told


def test_what_cannot_be_read_is_told(scanned: Any, run_stage: Any, tmp_path: Path) -> None:
    item, now = scanned("t2")
    (tmp_path / "text.h5").write_text("no images")
    (tmp_path / "none.h5").touch()
    written(tmp_path / "empty.h5", now, [])
    images = {name: tmp_path / f"{name}.h5" for name in ("missing", "text", "empty")}
    ran = run_stage(OtherContrasts(images=images), now, [item])
    assert ran.one.contrasts == {}
    assert len(ran.scan.warnings) == 3
    for name in images:
        assert sum(f"contrast '{name}'" in told and f"{name}.h5" in told for told in ran.scan.warnings) == 1


def test_calibration_goes_on(scanned: Any, run_stage: Any, tmp_path: Path) -> None:
    item, now = scanned("t2")
    ran = run_stage(OtherContrasts(images={"t1": tmp_path / "t1.h5"}), now, [Calibration(item)])
    assert len(ran.calibrations) == 1


def test_a_name_is_one_that_networks_use() -> None:
    with pytest.raises(StageConfigError, match="T1 w"):
        OtherContrasts(images={"T1 w": "t1.h5"})
    with pytest.raises(StageConfigError, match="images"):
        OtherContrasts(images={})
