"""Maps of the noise beside images, by formula and by replicas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Image, KSpace, Pipeline, Stage
from scanside.errors import ConfigError, StageConfigError, StageError
from scanside.execution import execute
from scanside.scan import Scan
from scanside.simulate import (
    CoilConfig,
    DynamicsConfig,
    GeometryConfig,
    NoiseConfig,
    SamplingConfig,
    ScanConfig,
    simulate,
)
from scanside.stages._signal import noise_of_item
from scanside.stages.finish import Finish
from scanside.stages.noise_maps import MapNoise
from scanside.testing import small_kspace, small_scan

SENSE = ({"sense": {"solver": "columns", "l2_noise": 10}},)
GRAPPA = ("grappa", {"fourier": {"combine": "maps"}})
N_REPLICAS = 200
UNCERTAIN = 1 / np.sqrt(2 * N_REPLICAS)


def run(item: KSpace, *, whitened: bool = True, **settings: Any) -> tuple[list[Image], Scan]:
    """What the stage makes of a k-space, and the scan that was told."""
    stage, scan = MapNoise(**settings), small_scan()
    if whitened:
        scan.whitening = np.eye(item.n_coils, dtype=np.complex128)
    stage.prepare(Context(device="cpu"))
    stage.open(scan)
    try:
        return list(stage.process(item)), scan
    finally:
        stage.close()


def item(**changes: Any) -> KSpace:
    """The small k-space, with noise of variance 1."""
    plain = small_kspace(coil_maps=True)
    assert plain.reference is not None
    level = noise_of_item(plain)
    reference = plain.reference.replace(data=plain.reference.data / level)
    return plain.replace(data=plain.data / level, reference=reference).replace(**changes)


@pytest.mark.parametrize("stages", [SENSE, GRAPPA], ids=["sense", "grappa"])
def test_formula_and_replicas_agree(stages: Any) -> None:
    """Regularisation follows the noise here, and replicas do not disturb it."""
    by_formula, _ = run(item(), stages=stages)
    by_replicas, _ = run(item(), stages=stages, method="replicas", replicas=N_REPLICAS)
    for one, other in zip(by_formula, by_replicas, strict=True):
        assert one.what == other.what
        expected = one.data[0].abs()
        seen = expected > 0
        ratio = other.data[0].abs()[seen] / expected[seen]
        if one.what == "image":
            assert torch.equal(one.data, other.data)
        else:
            assert abs(float(ratio.mean()) - 1) < 0.02
            assert float(ratio.std()) < 1.3 * UNCERTAIN


def test_maps_belong_together() -> None:
    (image, snr, g_factor, deviation), _ = run(item())
    assert [one.what for one in (image, snr, g_factor, deviation)] == [
        "image",
        "snr",
        "g-factor",
        "deviation",
    ]
    seen = deviation.data > 0
    assert torch.allclose(snr.data[seen] * deviation.data[seen], image.data[seen].abs(), rtol=1e-4)
    assert 1 <= float(g_factor.data[seen].median()) < 3
    assert snr.header["slice"] == image.header["slice"]
    assert snr.meta["ScansideNoiseMaps"] == ["analytic", "level", "1"]
    assert "ScansideNoiseMaps" not in image.meta
    assert [one.what for one in run(item(), maps=("deviation",))[0]] == ["image", "deviation"]


def test_full_sampling_has_the_noise_of_the_matched_filter() -> None:
    whole = item(mask=torch.ones(1, 24, dtype=torch.bool))
    images, _ = run(whole, stages=({"grappa": {"acceleration": [1, 1]}}, {"fourier": {"combine": "maps"}}))
    for one in images[2:]:  # the maps' squares add up to 1
        assert torch.allclose(one.data[one.data > 0], torch.ones(()))


def test_noise_that_is_not_known_is_estimated_and_told() -> None:
    louder = item(data=3 * item().data)
    (*_, known), _ = run(louder)
    (*_, estimated), scan = run(louder, whitened=False)
    assert "not prewhitened" in scan.warnings[-1]
    assert "estimated" in str(estimated.meta["ScansideNoiseMaps"])
    ratio = estimated.data[known.data > 0] / known.data[known.data > 0]
    assert float(ratio.std() / ratio.mean()) < 1e-4
    level = float(estimated.meta["ScansideNoiseMaps"][2].split()[0])
    assert level == pytest.approx(3, rel=0.01)
    assert float(ratio.mean()) == pytest.approx(3, rel=0.01)


@pytest.mark.usefixtures("learned_bundles")
def test_networks_have_maps_by_replicas() -> None:
    """The noise of the network's image, as other noise finds it."""
    stages = ({"engine": {"bundle": "gradient", "backend": "eager", "n_coils": [4]}},)
    (image, *_, deviation), _ = run(item(), stages=stages, method="replicas", replicas=40)
    assert "ScansideEngine" in image.meta
    others, _ = run(item(), stages=stages, method="replicas", replicas=40, seed=1, maps=("deviation",))
    ratio = deviation.data / others[1].data
    assert not torch.equal(deviation.data, others[1].data)
    assert abs(float(ratio.median()) - 1) < 0.1
    with pytest.raises(ConfigError, match="not for RunEngine"):
        run(item(), stages=stages)


def test_what_is_missing_is_told() -> None:
    with pytest.raises(ConfigError, match="g-factor compares with what coil maps allow"):
        run(small_kspace())
    with pytest.raises(ConfigError, match="there are formulas for the noise of"):
        run(item(), stages=("grappa", "fourier"))
    second = item(second_maps=item().coil_maps)
    with pytest.raises(ConfigError, match="two sets of coil maps"):
        run(second, stages=SENSE)
    with pytest.raises(ConfigError, match="the ends of the outer lines hold none"):
        run(item(data=torch.zeros_like(item().data)), stages=SENSE, whitened=False)


@pytest.mark.parametrize(
    ("stages", "told"),
    [
        (("grappa",), "the last of them gives none"),
        (("fourier", "grappa"), "'grappa' takes no Image"),
        ((), "noise-maps|too_short|at least 1"),
        (("grappa", 3), "stage 2 is 3"),
    ],
)
def test_stages_lead_from_k_space_to_images(stages: Any, told: str) -> None:
    with pytest.raises((ConfigError, StageConfigError), match=told):
        MapNoise(stages=stages)


class HoldsBack(Stage[KSpace, Image]):
    def process(self, item: KSpace) -> Iterator[Image]:
        return iter(())

    def finish(self, end: Any) -> Iterator[Image]:
        yield from run(item())[0]


def test_stages_that_hold_images_back_are_refused() -> None:
    stage = MapNoise()
    stage.stages = [HoldsBack()]
    stage.open(small_scan())
    with pytest.raises(ConfigError, match="held 4 items back"):
        stage.finish(Any)  # type: ignore[arg-type]


def test_maps_are_sent_as_gadgetron_sends_them() -> None:
    finish = Finish()
    finish.open(small_scan())
    image, *maps = run(item())[0]
    sent = [made for one in (image, *maps) for made in finish.process(one)]
    assert [int(one.header["image_series_index"]) for one in sent] == [1, 41, 42, 43]
    for one, made, factor in zip(maps, sent[1:], (10, 100, 1000), strict=True):
        assert made.data.dtype == torch.uint16
        slope = float(made.meta["RescaleSlope"][0])
        assert slope == pytest.approx(1 / factor)
        restored = made.data.to(torch.float32) * slope
        assert float((restored - one.data).abs().max()) <= 0.51 * slope
        assert f"{one.what.upper()} MAP, NOT AN IMAGE" in made.meta["ImageComment"]


def test_pipeline_knows_the_noise_of_its_scan() -> None:
    """Two repetitions, which differ in nothing but their noise, differ by as much as the map says."""
    config = ScanConfig(
        geometry=GeometryConfig(matrix=(64, 64, 1)),
        coils=CoilConfig(n_coils=6),
        sampling=SamplingConfig(acceleration=(2, 1), acs=(24, 0)),
        noise=NoiseConfig(readouts=256),
        dynamics=DynamicsConfig(repetitions=2),
    )
    simulated = simulate(config)
    pipeline = Pipeline.load("snr", {"finish.kind": "complex"})
    pipeline.prepare(Context(device="cpu"))
    made: list[Any] = []
    with pipeline.open(Scan.from_xml(simulated.header_xml)) as one:
        execute(one, simulated.items(), made.append)
    first, _, _, deviation, second, *_ = made
    noise = deviation.data[0].float() / 1000
    inside = noise > 0
    change = (first.data - second.data)[0][inside].real / (2**0.5 * noise[inside])
    assert float(change.square().mean().sqrt()) == pytest.approx(1, abs=0.05)


def test_pipeline_of_an_object_that_is_larger_than_the_field_of_view() -> None:
    """It would make two sets of coil maps, for whose noise there is no formula."""
    scanned = simulate(
        ScanConfig(
            geometry=GeometryConfig(
                matrix=(48, 48, 1), fov_mm=(240.0, 150.0, 6.0), offset_mm=(0.0, 0.0, 20.0)
            ),
            coils=CoilConfig(n_coils=6),
            noise=NoiseConfig(std=0.01),
            sampling=SamplingConfig(acceleration=(2, 1), acs=(24, 0)),
        )
    )

    def made(settings: dict[str, Any]) -> list[Any]:
        pipeline, given = Pipeline.load("snr", settings), []
        pipeline.prepare(Context(device="cpu"))
        with pipeline.open(Scan.from_xml(scanned.header_xml)) as opened:
            execute(opened, scanned.items(), given.append)
        return given

    assert [one.what for one in made({})] == ["image", "snr", "g-factor", "deviation"]
    with pytest.raises(StageError, match="two sets of coil maps"):
        made({"coil-maps.sets": "auto"})
