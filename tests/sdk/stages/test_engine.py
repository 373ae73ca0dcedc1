"""Learned reconstruction as a stage: the right image, or the classical one and why."""

from __future__ import annotations

import errno
import tempfile
import threading
import time
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from scanside import Context, Image, KSpace
from scanside.cli.app import app
from scanside.engines.at_hand import AtHand
from scanside.engines.build import Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.catalog import available_bundles
from scanside.engines.manifest import Training
from scanside.errors import (
    BundleError,
    ConfigError,
    EngineError,
    NonFiniteError,
    SignatureError,
    StageConfigError,
)
from scanside.items import AxisRange, Calibration
from scanside.mrd.header import Limit
from scanside.mrd.meta import Meta
from scanside.recon import column_cache
from scanside.recon.columns import ColumnSystem, factorise, on_grid
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import noise_level
from scanside.recon.scaling import image_scale
from scanside.stage import Expected
from scanside.stages._fitness import fitness_of
from scanside.stages._provenance import describe_engine
from scanside.stages.engine import RunEngine
from scanside.stages.sense import Sense
from scanside.testing import small_kspace, small_scan

pytestmark = pytest.mark.usefixtures("learned_bundles")

STEPS = 8


_PREPARED: dict[str, tuple[RunEngine, list[dict[Any, Any]]]] = {}


class Session:
    """A prepared stage and a scan that it is opened for; one of the same settings is not prepared again."""

    def __init__(self, **settings: Any) -> None:
        key = repr(settings)
        if key not in _PREPARED:
            stage = RunEngine(**{"bundle": "gradient", "backend": "eager", "n_coils": (4,), **settings})
            stage.prepare(Context(device="cpu"))
            _PREPARED[key] = stage, [dict(network._engines) for network in stage._networks]
        self.stage, engines = _PREPARED[key]
        for network, whole in zip(self.stage._networks, engines, strict=True):
            network._engines = dict(whole)
        self.scan = small_scan()
        self.stage.open(self.scan)

    def __call__(self, item: KSpace) -> Image:
        (image,) = self.stage.process(item)
        return image

    def break_engine(self, call: Callable[..., torch.Tensor]) -> None:
        """Let all engines do something else; it is called with the right function and the inputs."""
        for network in self.stage._networks:
            network._engines = {key: _Broken(engine, call) for key, engine in network._engines.items()}


class _Broken:
    def __init__(self, engine: Any, call: Callable[..., torch.Tensor]) -> None:
        self._engine, self._call = engine, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._call(self._engine, *inputs)


def kspace(**changes: Any) -> KSpace:
    return small_kspace(coil_maps=True).replace(**changes)


def sense_image(item: KSpace) -> torch.Tensor:
    stage = Sense(l2_noise=10)
    stage.open(small_scan())
    (image,) = stage.process(item)
    return image.data


def assert_fell_back(image: Image, session: Session, why: str, item: KSpace) -> None:
    assert image.meta["ScansideFallback"][:2] == ["sense", why]
    assert "ScansideEngine" not in image.meta
    assert session.scan.metrics[f"engine.fallback.{why}"] >= 1
    assert any(image.meta["ScansideFallback"][2] in told for told in session.scan.warnings)
    torch.testing.assert_close(image.data, sense_image(item))


# The image


def expected(item: KSpace) -> torch.Tensor:
    """The unrolled test network, as its formula says, with Fourier transforms and in double precision."""
    maps, mask = item.coil_maps.to(torch.complex128), item.mask[..., None].double()
    start = u = (maps.conj() * to_image(item.data.to(torch.complex128) * mask)).sum(0)
    for _ in range(STEPS):
        u = u - ((maps.conj() * to_image(to_kspace(maps * u) * mask)).sum(0) - start)
    return u


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_unrolled(scale: float) -> None:
    session, item = Session(), kspace()
    item = item.replace(data=scale * item.data)
    image = session(item)
    torch.testing.assert_close(
        image.data[0] / scale, expected(item).to(torch.complex64) / scale, rtol=1e-4, atol=1e-5
    )
    assert image.header["matrix_size"].tolist() == [24, 24, 1]
    assert session.scan.warnings == []
    assert session.scan.metrics == {"engine.images": 1}


def test_improves_a_sense_image() -> None:
    """The network's input is the image of the fallback, with the fallback's settings."""
    item = kspace()
    for l2 in (0.002, 0.1):
        stage = Sense(l2=l2)
        stage.open(small_scan())
        (start,) = (image.data for image in stage.process(item))
        image = Session(bundle="smooth", fallback={"sense": {"l2": l2}})(item)
        smooth = start + 0.25 * (start.roll(1, -1) + start.roll(-1, -1) - 2 * start)
        torch.testing.assert_close(image.data, smooth, rtol=1e-4, atol=1e-5)
    by_default = Session(bundle="smooth", fallback={"fourier": {}})(item)
    torch.testing.assert_close(by_default.data, Session(bundle="smooth")(item).data)


def test_pulled_back_to_the_data() -> None:
    """What comes out minimises the misfit to the data plus that to the network's image, by noise."""
    item = kspace()
    plain = Session(bundle="smooth")(item)
    image = Session(bundle="smooth", consistency=1e4, consistency_iterations=100)(item)
    maps, mask = item.coil_maps, item.mask[..., None]
    assert maps is not None
    start = sense_image(item)[0]
    noise = noise_level(item.data[:, 0], item.mask[0]) / image_scale(start)
    weight = 1e4 * noise.square()

    def normal(voxels: torch.Tensor) -> torch.Tensor:
        return (maps.conj() * to_image(to_kspace(maps * voxels) * mask)).sum(0)

    adjoint = (maps.conj() * to_image(item.data * mask)).sum(0)
    x, z = image.data[0], plain.data[0]
    gradient = normal(x) - adjoint + weight * (x - z)
    assert gradient.norm() < 1e-4 * adjoint.norm()
    assert (x - z).norm() > 1e-3 * z.norm(), "there was something to pull back"
    distances = [float(one.meta["ScansideDataConsistency"][0]) for one in (image, plain)]
    assert distances[0] < distances[1]


@pytest.mark.parametrize("consistency", [1e3, 1e5])
def test_pulled_back_by_columns(consistency: float) -> None:
    """Exactly, where SENSE is solved so: with a weight near to that of SENSE, and far from it."""
    item = kspace()
    assert item.coil_maps is not None
    sense = {"sense": {"solver": "columns", "l2": 0.01}}
    plain = Session(bundle="smooth", fallback=sense)(item)
    session = Session(bundle="smooth", fallback=sense, consistency=consistency)
    image = session(item)
    (start,) = run_sense(item, l2=0.01)
    noise = noise_level(item.data[:, 0], item.mask[0]) / image_scale(start.data[0])
    weight = on_grid(max(consistency * float(noise) ** 2, 5e-4))
    right = (item.coil_maps.conj() * to_image(item.data * item.mask[..., None])).sum(0)
    system = factorise(item.coil_maps[:, 0].to(torch.complex128), item.mask[0], weight)
    expected = system.solve((right + weight * plain.data[0])[0].to(torch.complex128))
    assert float((image.data[0, 0] - expected).norm() / expected.norm()) < 1e-4
    assert float((plain.data[0, 0] - expected).norm() / expected.norm()) > 1e-3
    assert "ScansideFallback" not in image.meta
    session.stage.open(session.scan)
    repetitions = [next(iter(session.stage.process(item))).data for _ in range(4)]
    session.stage.close()
    for again in repetitions:
        assert float((again - image.data).norm() / image.data.norm()) < 5e-5


def test_calibration_lines_prepare_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    """When they come with maps and the lines to be expected, nothing is left to factorise after the last readout."""
    made: list[tuple[str, float]] = []

    def noted(maps: torch.Tensor, mask: torch.Tensor, weight: float) -> ColumnSystem:
        made.append((threading.current_thread().name, weight))
        return factorise(maps, mask, weight)

    monkeypatch.setattr(column_cache, "factorise", noted)
    item = kspace()
    session = Session(bundle="smooth", fallback={"sense": {"solver": "columns", "l2": 0.02}})
    made.clear()
    session.stage.open(session.scan)
    assert list(session.stage.process(Calibration(item, item.mask))) == []
    assert len(list(session.stage.process(item))) == 1
    session.stage.close()
    ((thread, weight),) = made
    assert thread != threading.current_thread().name
    assert weight == 0.02


def run_sense(item: KSpace, **settings: Any) -> list[Image]:
    """Images by SENSE."""
    stage = Sense(**settings)
    stage.open(small_scan())
    return list(stage.process(item))


def test_frames_one_by_one() -> None:
    """Frames with patterns of their own give the same together as alone."""
    first, second = small_kspace(coil_maps=True), small_kspace(repetition=1, coil_maps=True)
    mask = second.mask.clone()
    mask[:, 20] = False
    second = second.replace(mask=mask, data=second.data * mask[..., None])
    together = first.replace(
        data=torch.stack([first.data, second.data]),
        mask=torch.stack([first.mask, second.mask]),
        headers=np.stack([first.headers, second.headers]),
        other=("repetition",),
        counters={"slice": 0},
    )
    session = Session()
    images = list(session.stage.process(together))
    assert [int(image.header["repetition"]) for image in images] == [0, 1]
    for image, item in zip(images, (first, second), strict=True):
        torch.testing.assert_close(image.data, session(item).data, rtol=1e-4, atol=1e-5)


def test_says_what_people_must_be_told_of_its_training() -> None:
    session = Session()
    assert "ScansideCaution" not in session(kspace()).meta
    engine = next(iter(session.stage._networks[0]._engines.values()))
    training = Training(config="config.yaml", seed=0, cautions=("trained on one leg",))
    manifest = engine.bundle.manifest.model_copy(update={"training": training})
    told: Any = SimpleNamespace(
        provenance=engine.provenance, choice=engine.choice, bundle=SimpleNamespace(manifest=manifest)
    )
    meta = Meta()
    describe_engine(meta, told, "small")
    assert meta["ScansideCaution"] == ["trained on one leg"]


def test_says_what_made_it() -> None:
    session = Session()
    meta = session(kspace()).meta
    network = session.stage._networks[0]
    assert meta["ScansideEngine"] == ["gradient", "1.0.0"]
    assert meta["ScansideWeights"] == [network.manifest.weights_sha256[:12], network.manifest.weights_sha256]
    assert meta["ScansideBackend"] == ["eager", "fp32", "24×24"]
    assert meta["ScansidePipeline"] == ["small"]
    assert "research use only" in meta.first("ScansideResearchUse")
    assert 0 < float(meta.first("ScansideDataConsistency")) < 0.05
    assert "ScansideFallback" not in meta
    assert "ScansideFitness" not in meta


# When the network's image is not to be had


def test_not_finite() -> None:
    session, item = Session(), kspace()
    session.break_engine(lambda engine, *inputs: engine(*inputs) * float("nan"))
    assert_fell_back(session(item), session, "non-finite", item)


def test_disagrees_with_the_data() -> None:
    session, item = Session(), kspace()
    session.break_engine(lambda engine, *inputs: engine(*inputs).roll(3, -1))
    image = session(item)
    assert_fell_back(image, session, "data-consistency", item)
    assert "allowed is 0.3" in image.meta["ScansideFallback"][2]
    tolerant = Session(residual=None)
    tolerant.break_engine(lambda engine, *inputs: engine(*inputs).roll(3, -1))
    assert float(tolerant(item).meta.first("ScansideDataConsistency")) > 0.3


@pytest.mark.parametrize(("turned", "refused"), [(0, False), (3, True)])
def test_noise_is_no_disagreement(turned: int, refused: bool) -> None:
    """In a noisy scan even the true image is far from the lines; a wrong one is farther."""
    session, clean = Session(), kspace()
    true = expected(clean).to(torch.complex64)[0].roll(turned, -1)
    noise = torch.randn(clean.data.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    share = (
        0.7 * torch.linalg.vector_norm(clean.data) / torch.linalg.vector_norm(noise * clean.mask[..., None])
    )
    item = clean.replace(data=clean.data + share * noise * clean.mask[..., None])
    start = (item.coil_maps.conj() * to_image(item.data * item.mask[..., None])).sum(0)

    def truth(_: Any, *inputs: torch.Tensor) -> torch.Tensor:
        scale = torch.linalg.vector_norm(start) / torch.linalg.vector_norm(inputs[0])
        return torch.stack((true.real, true.imag))[None] / scale

    session.break_engine(truth)
    image = session(item)
    if refused:
        assert_fell_back(image, session, "data-consistency", item)
    else:
        torch.testing.assert_close(image.data[0, 0], true, rtol=1e-4, atol=1e-5)
        assert float(image.meta.first("ScansideDataConsistency")) > 0.5


def test_distance_to_the_data() -> None:
    """Half the right image is half the data away."""
    session, item = Session(residual=None), kspace()
    session.break_engine(lambda engine, *inputs: engine(*inputs) / 2)
    assert float(session(item).meta.first("ScansideDataConsistency")) == pytest.approx(0.5, abs=0.01)


def test_failing_engine() -> None:
    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("the native library is out of memory")

    session, item = Session(), kspace()
    session.break_engine(fail)
    image = session(item)
    assert_fell_back(image, session, "failed", item)
    assert "out of memory" in image.meta["ScansideFallback"][2]


def test_deadline() -> None:
    """An engine that is late is not waited for; until it has ended, nothing else is asked of it."""
    released = threading.Event()

    def late(engine: Any, *inputs: torch.Tensor) -> torch.Tensor:
        released.wait(300)
        return engine(*inputs)  # type: ignore[no-any-return]

    session, item = Session(deadline_ms=150), kspace()
    session.break_engine(late)
    begun = time.monotonic()
    assert_fell_back(session(item), session, "deadline", item)
    assert time.monotonic() - begun < 60
    assert_fell_back(session(item), session, "busy", item)
    session.stage.close()
    session.stage.open(session.scan)
    released.set()
    for _ in range(200):
        image = session(item)
        if "ScansideEngine" in image.meta:
            break
        time.sleep(0.01)
    torch.testing.assert_close(image.data, Session()(item).data)
    assert session.scan.metrics["engine.fallback.deadline"] == 1
    assert len([told for told in session.scan.warnings if "still busy" in told]) == 1


def test_in_time() -> None:
    item = kspace()
    torch.testing.assert_close(Session(deadline_ms=20_000)(item).data, Session()(item).data)


def test_the_choice_is_told() -> None:
    session = Session(deadline_ms=20_000)
    image = session(kspace())
    engine, why = image.meta["ScansideEngineChoice"]
    assert engine == "eager fp32"
    assert why.endswith(" ms, the highest precision within 80% of 20000 ms")
    assert not any("in time" in told for told in session.scan.warnings)


def test_that_no_engine_may_be_in_time_is_told_before_it_is_late() -> None:
    session = Session(deadline_ms=20_000, bundle=["gradient"])
    (network,) = session.stage._networks
    ((key, engine),) = network._engines.items()
    engine = copy(engine)
    engine.choice = replace(engine.choice, late="too slow")
    network._engines[key] = engine
    image = session(kspace())
    assert "ScansideFallback" not in image.meta
    assert session.scan.metrics["engine.late"] == 1
    assert any("no engine of 'gradient' is sure to be in time" in told for told in session.scan.warnings)


def test_each_reason_is_told_once() -> None:
    session, item = Session(), kspace()
    session.break_engine(lambda engine, *inputs: engine(*inputs) * float("nan"))
    for _ in range(3):
        session(item)
    assert len(session.scan.warnings) == 1
    assert session.scan.metrics == {"engine.fallback.non-finite": 3}


def test_without_a_fallback() -> None:
    session = Session(fallback=None)
    session(kspace())
    session.break_engine(lambda engine, *inputs: engine(*inputs) * float("nan"))
    with pytest.raises(EngineError, match=r"NaN or infinite.*Set engine.fallback"):
        session(kspace())


def test_fallback_of_another_kind() -> None:
    session = Session(fallback={"fourier": {"combine": "maps"}})
    session.break_engine(lambda engine, *inputs: engine(*inputs) * float("nan"))
    assert session(kspace()).meta["ScansideFallback"][:2] == ["fourier", "non-finite"]


# K-space that is nothing, or no numbers


@pytest.mark.parametrize("bundle", ["gradient", "smooth"])
def test_zeros(bundle: str) -> None:
    session, item = Session(bundle=bundle), kspace()
    image = session(item.replace(data=torch.zeros_like(item.data)))
    assert not bool(image.data.any())
    assert "zero" in image.meta.first("ScansideEmpty")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("bundle", ["gradient", "smooth"])
def test_no_numbers(bundle: str, value: float) -> None:
    session, item = Session(bundle=bundle), kspace()
    data = item.data.clone()
    data[1, 0, 4, 7] = value
    counter = int(item.headers["scan_counter"][0, 4])
    with pytest.raises(NonFiniteError, match=f"scan counter {counter} .*holds NaN"):
        session(item.replace(data=data))


def test_maps_must_be_there() -> None:
    with pytest.raises(ConfigError, match="add 'coil-maps'"):
        Session()(small_kspace())


# Fitness


def with_lines(lines: Any) -> KSpace:
    """Only these lines of k-space, which was sampled on lines 0, 2, … and 8 to 15."""
    item = kspace()
    mask = torch.zeros_like(item.mask)
    mask[:, list(lines)] = True
    mask &= item.mask
    return item.replace(mask=mask, data=item.data * mask[..., None])


def with_limits(item: KSpace, limit: Limit) -> KSpace:
    """With other lines planned than those from end to end."""
    limits = {**item.encoding.limits, "kspace_encode_step_1": limit}
    return item.replace(encoding=replace(item.encoding, limits=limits))


def of_coils(n: int, item: KSpace) -> KSpace:
    """The first coils alone."""
    assert item.coil_maps is not None
    assert item.reference is not None
    reference = item.reference.replace(data=item.reference.data[:n])
    return item.replace(data=item.data[:n], coil_maps=item.coil_maps[:n], reference=reference)


def noisy(level: float) -> KSpace:
    """With so much noise for the brightest tissue."""
    item = kspace()
    noise = torch.randn(item.data.shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    level *= float(image_scale(sense_image(item)[0, 0]))
    return item.replace(data=(item.data + level * noise) * item.mask[..., None])


CENTRE = tuple(range(8, 16))
UNTRAINED = {
    "acceleration 1, trained for 1.2–4": lambda: kspace(mask=torch.ones(1, 24, dtype=torch.bool)),
    "acceleration 4.8": lambda: with_lines((0, 4, 8, 12, 20)),
    "ACS width 3, trained for 6–30": lambda: with_lines((*range(0, 24, 2), 11)),
    "ACS width 0": lambda: with_lines((*range(0, 12, 2), *range(14, 24, 2))),
    "random or variable-density, trained for equispaced": lambda: with_lines((*CENTRE, 0, 2, 18)),
    "sampled on one side only along k1": lambda: with_limits(
        with_lines((*CENTRE, 16, 18, 20, 22)), Limit(0, 17, 6)
    ),
    "rows 6 to 17 of 24 of k-space were acquired along k1, with about": lambda: with_limits(
        with_lines((*CENTRE, 6, 16)), Limit(0, 11, 6)
    ),
    "3 coils × 6 lines are fewer than the 24 rows": lambda: of_coils(3, with_lines(range(9, 15))),
    "coil count 1, trained for 4–8": lambda: of_coils(1, kspace()),
    "SNR about": lambda: noisy(2.0),
    "coil compression lost 4.00% of the signal's energy": lambda: kspace(
        meta=Meta({"ScansideCoilCompressionLoss": "0.04"})
    ),
}


@pytest.mark.parametrize("what", UNTRAINED)
def test_not_trained_for(what: str) -> None:
    item = UNTRAINED[what]()
    prepared = {"residual": None, "n_coils": (item.n_coils,)}
    session = Session(**prepared)
    image = session(item)
    assert any(what in told for told in image.meta["ScansideFitness"])
    assert image.meta.first("ScansideEngine") == "gradient"
    assert any(what in told for told in session.scan.warnings)
    assert session.scan.metrics["engine.untrained"] == 1

    session = Session(**prepared, fitness="fallback")
    assert_fell_back(session(item), session, "unfit", item)
    assert any(what in told for told in session.scan.warnings)

    session = Session(**prepared, fitness="ignore")
    assert "ScansideFitness" not in session(item).meta
    assert session.scan.warnings == []


@pytest.mark.parametrize(
    ("kinds", "fits"),
    [
        (("gaussian",), True),
        (("fastmri-random", "magic"), True),
        (("equispaced-fraction",), True),
        (("centre",), False),
        (("kt-uniform",), False),
    ],
)
def test_masks_of_a_further_kind_look_like_one_that_is_told_apart(kinds: tuple[str, ...], fits: bool) -> None:
    manifest = Bundle.open(available_bundles()["gradient"]).manifest
    sampling = manifest.sampling.model_copy(update={"kinds": kinds})
    found = fitness_of(manifest.model_copy(update={"sampling": sampling}), with_lines((*CENTRE, 0, 2, 18)))
    assert any("random or variable-density" in told for told in found.untrained) != fits


def test_trained_for_what_it_was_trained_for() -> None:
    assert "ScansideFitness" not in Session()(kspace()).meta


def padded(n: int, *, k0: int | None = None) -> KSpace:
    """K-space with another number of lines, and samples."""
    item = kspace()
    shape = (n, k0 or n)

    def to_size(tensor: torch.Tensor) -> torch.Tensor:
        whole = tensor.new_zeros(*tensor.shape[:-2], *shape)
        low = [m // 2 - 12 for m in shape]
        whole[..., low[0] : low[0] + 24, low[1] : low[1] + 24] = tensor
        return whole

    assert item.coil_maps is not None
    nearest = [((torch.arange(m) - m // 2) * 24 / m).round().long().add(12).clamp(0, 23) for m in shape]
    maps = item.coil_maps[..., nearest[0][:, None], nearest[1]].contiguous()
    mask = torch.zeros(1, n, dtype=torch.bool)
    mask[:, n // 2 - 12 : n // 2 + 12] = item.mask
    headers = np.zeros((1, n), item.headers.dtype)
    headers[:, n // 2 - 12 : n // 2 + 12] = item.headers
    full = AxisRange(0, shape[1] - 1, shape[1] // 2)
    return item.replace(
        data=to_size(item.data),
        coil_maps=maps,
        mask=mask,
        headers=headers,
        ranges=(full, AxisRange(n // 2 - 12, n // 2 + 11, n // 2), AxisRange(0, 0, 0)),
        reference=None,
    )


def twelve(item: KSpace) -> KSpace:
    """With each coil three times."""
    assert item.coil_maps is not None
    maps, data, reference = item.coil_maps.repeat(3, 1, 1, 1), item.data.repeat(3, 1, 1, 1), item.reference
    if reference is not None:
        reference = reference.replace(data=reference.data.repeat(3, 1, 1, 1))
    return item.replace(data=data / 3**0.5, coil_maps=maps / 3**0.5, reference=reference)


def test_more_coils_than_an_engine_takes() -> None:
    """It gets virtual ones, with their maps; the fallback gets all."""
    session, item = Session(n_coils=(8,)), twelve(kspace())
    image = session(item)
    assert image.meta["ScansideCoilCompression"][:2] == ["geometric", "12 coils to 8"]
    assert float(image.meta.first("ScansideCoilCompressionLoss")) < 1e-3
    assert image.meta.first("ScansideEngine") == "gradient"
    assert session.scan.warnings == []
    torch.testing.assert_close(image.data, Session()(kspace()).data, rtol=1e-3, atol=1e-4)
    again = session(item.replace(data=2 * item.data))
    torch.testing.assert_close(again.data, 2 * image.data, rtol=1e-4, atol=1e-5)
    session.break_engine(lambda engine, *inputs: engine(*inputs) * float("nan"))
    assert_fell_back(session(item), session, "non-finite", item)


def test_fewer_coils_than_an_engine_takes() -> None:
    """The others are empty, which changes nothing: the image is that of the formula."""
    session, item = Session(n_coils=(1,), fitness="ignore", residual=None), of_coils(1, kspace())
    image = session(item)
    assert session.stage.engines[0].n_coils == 2
    torch.testing.assert_close(image.data[0], expected(item).to(torch.complex64), rtol=1e-4, atol=1e-5)


def test_random_lines_that_spare_one_end_are_no_partial_fourier() -> None:
    """By the header's limits, they might have come."""
    image = Session(residual=None)(with_lines((*CENTRE, 16, 18, 20, 22)))
    assert not any("one side" in told for told in image.meta["ScansideFitness"])


CANNOT = {
    "takes images of up to 640×640": lambda: padded(24, k0=641),
    "its 12 coils would have to be compressed: coil compression needs calibration": lambda: twelve(
        kspace(mask=kspace().mask & (torch.arange(24) % 2 == 0), reference=None)
    ),
    "whole readouts only": lambda: kspace(
        data=torch.cat((torch.zeros(4, 1, 24, 6), kspace().data[..., 6:]), -1),
        ranges=(AxisRange(6, 23, 12), *kspace().ranges[1:]),
    ),
}


@pytest.mark.parametrize("what", CANNOT)
@pytest.mark.parametrize("fitness", ["warn", "ignore"])
def test_cannot_be_used_at_all(what: str, fitness: str) -> None:
    session, item = Session(fitness=fitness), CANNOT[what]()
    image = session(item)
    assert image.meta["ScansideFallback"][:2] == ["sense", "unfit"]
    assert what in image.meta["ScansideFallback"][2]
    torch.testing.assert_close(image.data, sense_image(item))
    with pytest.raises(EngineError, match="no bundle is fit"):
        Session(fallback=None)(item)


def test_partitions() -> None:
    item = kspace()
    thick = item.replace(
        data=item.data.repeat(1, 2, 1, 1),
        coil_maps=item.coil_maps.repeat(1, 2, 1, 1),
        mask=item.mask.repeat(2, 1),
        headers=item.headers.repeat(2, axis=0),
        ranges=(*item.ranges[:2], AxisRange(0, 1, 1)),
    )
    image = Session()(thick)
    assert "this k-space has 2 partitions" in image.meta["ScansideFallback"][2]


def test_first_fit_of_several() -> None:
    """Of two bundles the one that takes the k-space, and of two that take it the first."""
    both = Session(bundle=("gradient", "smooth"))
    assert both(kspace()).meta.first("ScansideEngine") == "gradient"
    asymmetric = CANNOT["whole readouts only"]()
    assert both(asymmetric).meta.first("ScansideEngine") == "smooth"
    assert Session(bundle=("smooth", "gradient"))(kspace()).meta.first("ScansideEngine") == "smooth"
    neither = both(padded(24, k0=641)).meta["ScansideFallback"][2]
    assert "'gradient': " in neither
    assert "'smooth': " in neither


def test_other_sizes() -> None:
    """An unrolled network computes at a prepared size, with the operator of the scan's own."""
    item = padded(31)
    session = Session()
    session.stage.expect(Expected(item.encoding, (31, 31), 4))
    image = session(item)
    assert image.meta["ScansideBackend"][2] == "64×64"
    assert session.scan.warnings == []
    assert image.data.shape == (1, 1, 31, 31)
    torch.testing.assert_close(image.data[0], expected(item).to(torch.complex64), rtol=1e-4, atol=1e-5)

    session = Session(other_sizes="fallback")
    assert_fell_back(session(item), session, "size", item)

    session = Session(sizes=((24, 24), (32, 32)))
    assert session(item).meta["ScansideBackend"][2] == "64×64"
    assert session.scan.warnings == []


@pytest.fixture
def nothing_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine cache with nothing in it."""
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "engines"))
    return tmp_path / "engines"


def unprepared(**settings: Any) -> RunEngine:
    """A stage that a scan waits for, so that nothing is built."""
    stage = RunEngine(**{"bundle": "gradient", "backend": "eager", "n_coils": (4,), **settings})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "_build", lambda *_: pytest.fail("an engine is built"))
        stage.prepare(Context(device="cpu").while_a_scan_waits())
    return stage


def image_of(stage: RunEngine, item: KSpace) -> Image:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workshop, "_build", lambda *_: pytest.fail("an engine is built"))
        stage.open(small_scan())
        (image,) = stage.process(item)
        stage.close()
    return image


@pytest.mark.usefixtures("nothing_built")
@pytest.mark.parametrize("n", [24, 31, 70])
def test_any_size_has_a_learned_image_although_nothing_was_built(n: int) -> None:
    """The network runs as PyTorch runs it, the first time too, and the image says how to have a faster engine."""
    item, stage = padded(n), unprepared(backend="auto", residual=None)
    image = image_of(stage, item)
    assert "ScansideFallback" not in image.meta
    size = n + n % 2
    assert image.meta["ScansideBackend"] == ["eager", "fp32", f"{size}×{size}"]
    torch.testing.assert_close(image.data[0], expected(item).to(torch.complex64), rtol=1e-4, atol=1e-5)
    _, why = image.meta["ScansideEngineChoice"]
    built = {24: "24×24", 31: "64×64", 70: "70×70"}[n]
    assert f"no engine of 'gradient' for {built} and 4 coils has been built on this machine" in why
    command = why.partition("'scanside ")[2].partition("'")[0].split()
    wanted = ("engines", "build", "gradient", "--bucket", built.replace("×", "x"), "--coils", "4")
    assert command == list(wanted)
    assert len(stage.engines) == 1
    image_of(stage, item)
    assert len(stage.engines) == 1, "it is made once"


def test_what_is_built_meanwhile_serves_the_next_scan(nothing_built: Path) -> None:
    """The smallest engine that holds the image, of those that are there; but prepared ones first."""
    item, stage = padded(31), unprepared()
    assert image_of(stage, item).meta["ScansideBackend"][2] == "32×32"
    for built, of_24 in (("64×64", "24×24"), ("40×40", "40×40")):
        command = f"engines build gradient --bucket {built.replace('×', 'x')} --coils 4 --backend eager"
        result = CliRunner().invoke(app, command.split())
        assert result.exit_code == 0, result.output
        image = image_of(stage, item)
        assert image.meta["ScansideBackend"][2] == built
        assert "PyTorch" not in image.meta["ScansideEngineChoice"][1]
        torch.testing.assert_close(image.data[0], expected(item).to(torch.complex64), rtol=1e-4, atol=1e-5)
        small = image_of(stage, kspace())
        assert small.meta["ScansideBackend"][2] == of_24, "a much larger one takes too long"
    stage = RunEngine(bundle="gradient", backend="eager", n_coils=(4,), sizes=((62, 62),))
    stage.prepare(Context(device="cpu"))
    assert image_of(stage, item).meta["ScansideBackend"][2] == "64×64"


@pytest.mark.usefixtures("nothing_built")
def test_a_backend_that_is_asked_for_is_not_built_while_a_scan_waits() -> None:
    """The classical image comes at once, and says how to build."""
    item, scan = kspace(), small_scan()
    stage = unprepared(backend="onnxruntime")
    stage.open(scan)
    (image,) = stage.process(item)
    torch.testing.assert_close(image.data, sense_image(item))
    assert image.meta["ScansideFallback"][:2] == ["sense", "not-built"]
    says = image.meta["ScansideFallback"][2]
    assert "no engine of 'gradient' for 24×24 and 4 coils has been built on this machine" in says
    assert says in scan.warnings[0]
    assert "'scanside engines build gradient --bucket 24x24 --coils 4 --backend onnxruntime'" in says
    with pytest.raises(EngineError, match=r"scanside engines build gradient .*Set engine.fallback"):
        image_of(unprepared(backend="onnxruntime", fallback=None), item)


@pytest.mark.usefixtures("nothing_built")
def test_an_engine_is_at_hand_before_the_last_line_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    item, stage = kspace(), unprepared()
    stage.open(small_scan())
    list(stage.process(Calibration(item, lines=item.mask)))
    assert len(stage.engines) == 1
    monkeypatch.setattr(AtHand, "engine", lambda *_: pytest.fail("it is made with the image"))
    (image,) = stage.process(item)
    assert image.meta.first("ScansideEngine") == "gradient"
    too_large = padded(24, k0=641)
    stage.open(small_scan())
    list(stage.process(Calibration(too_large, lines=too_large.mask)))
    (image,) = stage.process(too_large)
    assert image.meta["ScansideFallback"][1] == "unfit"


def test_images_are_padded_to_an_engine() -> None:
    """A network of images takes smaller ones than its engine."""
    item = padded(33)
    session = Session(bundle="smooth", sizes=((64, 64),))
    image = session(item)
    assert image.meta["ScansideBackend"][2] == "64×64"
    assert image.data.shape == (1, 1, 33, 33)
    start = sense_image(item)
    smooth = start + 0.25 * (start.roll(1, -1) + start.roll(-1, -1) - 2 * start)
    torch.testing.assert_close(image.data[..., 1:-1], smooth[..., 1:-1], rtol=1e-4, atol=1e-5)


# What prepare finds


def test_changed_bundle(learned_bundles: Path, tmp_path: Path) -> None:
    import shutil

    broken = Path(shutil.copytree(learned_bundles / "gradient", tmp_path / "gradient"))
    weights = bytearray((broken / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (broken / "weights.safetensors").write_bytes(weights)
    with pytest.raises(BundleError, match="was changed"):
        Session(bundle=str(broken))


def test_unsigned_bundle() -> None:
    with pytest.raises(SignatureError):
        Session(require_signature=True)


def test_settings() -> None:
    with pytest.raises(StageConfigError, match="one classical stage"):
        RunEngine(bundle="x", fallback={"sense": {}, "fourier": {}})
    with pytest.raises(StageConfigError, match="grappa"):
        RunEngine(bundle="x", fallback={"grappa": {}})
    with pytest.raises(StageConfigError, match="at least 1"):
        RunEngine(bundle=())


def test_nothing_can_be_written_and_the_image_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither the cache nor the temporary folder takes anything: the network runs, or the fallback says why."""

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "engines"))
    monkeypatch.setattr(tempfile, "mkdtemp", full)
    stage = RunEngine(bundle="gradient", backend="eager", n_coils=(4,))
    stage.prepare(Context(device="cpu"))
    assert image_of(stage, kspace()).meta.first("ScansideEngine") == "gradient"
    stage = RunEngine(bundle="gradient", backend="onnxruntime", n_coils=(4,))
    stage.prepare(Context(device="cpu"))
    scan, item = small_scan(), kspace()
    stage.open(scan)
    (image,) = stage.process(item)
    torch.testing.assert_close(image.data, sense_image(item))
    assert image.meta["ScansideFallback"][0] == "sense"
    assert "No space left on device" in image.meta["ScansideFallback"][2]
    assert any("No space left on device" in told for told in scan.warnings)
    with pytest.raises(EngineError, match="No space left on device"):
        RunEngine(bundle="gradient", backend="eager", n_coils=(4,), fallback=None).prepare(
            Context(device="cpu")
        )
