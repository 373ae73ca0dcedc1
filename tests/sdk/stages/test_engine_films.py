"""Learned reconstruction of windows of frames: in one call, the wanted images, or classical ones and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Image, KSpace
from scanside.errors import ConfigError, NonFiniteError
from scanside.items import AxisRange
from scanside.recon.film_start import film_start
from scanside.recon.fourier import to_image, to_kspace
from scanside.stage import Stage
from scanside.stages._fallback import pace_ms
from scanside.stages.engine import RunEngine
from scanside.stages.fourier import Fourier
from scanside.stages.low_rank_sparse import ReconstructLowRankSparse
from scanside.stages.sense import Sense
from scanside.stages.view_sharing import ShareViews
from scanside.testing import small_image, small_kspace, small_scan

N, FRAMES, STEPS = 24, 4, 8
CENTRE = slice(8, 16)


def kt_lines(n_frames: int = FRAMES) -> torch.Tensor:
    """Every second line, another half in each frame, and the centre, ``(time, k1)``."""
    lines = (torch.arange(N) + torch.arange(n_frames)[:, None]) % 2 == 0
    lines[:, CENTRE] = True
    return lines


def film(lines: torch.Tensor | None = None, **changes: Any) -> KSpace:
    """A window of an object that moves by two voxels from frame to frame."""
    lines = kt_lines() if lines is None else lines
    still = small_kspace(coil_maps=True)
    maps, image = still.coil_maps, small_image().data[0]
    assert maps is not None
    mask = lines[:, None]
    moving = torch.stack([image.roll(2 * t, -1) for t in range(len(lines))])
    data = to_kspace(maps * moving[:, None]) * mask[:, None, ..., None]
    headers = np.tile(still.headers[:, 8:9], (len(lines), 1, N))
    headers["idx"]["kspace_encode_step_1"] = np.arange(N)
    headers["idx"]["repetition"] = 10 + np.arange(len(lines))[:, None, None]
    headers["version"][~mask.numpy()] = 0
    counters = {name: value for name, value in still.counters.items() if name != "repetition"}
    full = AxisRange(0, N - 1, N // 2)
    window = still.replace(
        data=data.to(torch.complex64),
        mask=mask,
        headers=headers,
        other=("repetition",),
        counters=counters,
        ranges=(full, full, AxisRange(0, 0, 0)),
    )
    return window.replace(**changes)


_PREPARED: dict[str, tuple[RunEngine, list[dict[Any, Any]]]] = {}


class Session:
    """A prepared stage and a scan that it is opened for; one of the same settings is not prepared again."""

    def __init__(self, root: Path, bundle: str | tuple[str, ...] = "film", **settings: Any) -> None:
        bundles = [str(root / name) for name in ((bundle,) if isinstance(bundle, str) else bundle)]
        settings = {"backend": "eager", "n_coils": (4,), "sizes": ((N, N),), **settings}
        key = repr((bundles, settings))
        if key not in _PREPARED:
            stage = RunEngine(bundle=tuple(bundles), **settings)
            stage.prepare(Context(device="cpu"))
            _PREPARED[key] = stage, [dict(network._engines) for network in stage._networks]
        self.stage, engines = _PREPARED[key]
        for network, whole in zip(self.stage._networks, engines, strict=True):
            network._engines = dict(whole)
        self.scan = small_scan()
        self.stage.open(self.scan)

    def __call__(self, item: KSpace) -> list[Image]:
        return list(self.stage.process(item))

    def break_engine(self, call: Callable[..., torch.Tensor]) -> None:
        """Let the engines do something else; it is called with the right function and the inputs."""
        for network in self.stage._networks:
            for key, engine in network._engines.items():
                network._engines[key] = _Broken(engine, call)  # type: ignore[assignment]


class _Broken:
    def __init__(self, engine: Any, call: Callable[..., torch.Tensor]) -> None:
        self._engine, self._call = engine, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._call(self._engine, *inputs)


@pytest.fixture
def session(film_bundles: Path) -> Session:
    return Session(film_bundles)


def expected(item: KSpace) -> torch.Tensor:
    """The test network, as its formula says, with Fourier transforms and in double precision, ``(time, z, y, x)``."""
    assert item.coil_maps is not None
    maps, mask = item.coil_maps.to(torch.complex128), item.mask[:, None, ..., None].double()
    start = (maps.conj() * to_image(item.data.to(torch.complex128) * mask)).sum(1)
    u = start.mean(0, keepdim=True).expand_as(start)
    for _ in range(STEPS):
        u = u - ((maps.conj() * to_image(to_kspace(maps * u[:, None]) * mask)).sum(1) - start)
    return u


def sense_images(item: KSpace) -> list[torch.Tensor]:
    stage = Sense(l2_noise=10)
    stage.open(small_scan())
    return [image.data for image in stage.process(item)]


def repetitions(images: list[Image]) -> list[int]:
    return [int(image.header["repetition"]) for image in images]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_all_frames_in_one_call(session: Session, scale: float) -> None:
    item = film()
    calls: list[int] = []
    session.break_engine(lambda engine, *inputs: (calls.append(1), engine(*inputs))[1])
    images = session(item.replace(data=scale * item.data))
    assert len(calls) == 1
    assert repetitions(images) == [10, 11, 12, 13]
    for image, right in zip(images, expected(item), strict=True):
        torch.testing.assert_close(image.data[0] / scale, right.to(torch.complex64), rtol=1e-4, atol=1e-5)
    assert session.scan.warnings == []
    assert session.scan.metrics == {"engine.images": 1}


def test_padded_to_a_larger_engine(film_bundles: Path) -> None:
    item = film()
    maps = item.coil_maps
    assert maps is not None
    network = Session(film_bundles, sizes=((64, 64), (N, N))).stage._networks[0]
    large, small = (network.engine(size, 4) for size in ((64, 64), (N, N)))
    assert large is not None
    assert small is not None
    image = torch.randn(FRAMES, N, N, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    inputs = network.inputs(large, image, maps[:, 0], item.mask[:, 0], torch.ones(()))
    torch.testing.assert_close(large(*inputs), small(*inputs), rtol=1e-4, atol=1e-5)


def test_only_wanted_frames_become_images(session: Session) -> None:
    item = film()
    whole = session(item)
    some = session(item.replace(wanted=(1, 2)))
    assert repetitions(some) == [11, 12]
    for image, same in zip(some, whole[1:3], strict=True):
        assert torch.equal(image.data, same.data)


def test_says_what_made_it(session: Session) -> None:
    item = film()
    item.meta["ScansideWindow"] = ["repetition", "10", "11", "12", "13"]
    meta = session(item)[2].meta
    assert meta["ScansideEngine"] == ["film", "1.0.0"]
    assert meta["ScansideBackend"] == ["eager", "fp32", "4×24×24"]
    assert meta["ScansideWindow"][0] == "repetition"
    assert 0 < float(meta.first("ScansideDataConsistency")) < 0.1
    assert "ScansideFallback" not in meta
    assert "ScansideFitness" not in meta


def test_without_data_consistency(film_bundles: Path) -> None:
    """The network's image is ``Aᴴ y`` sharpened in time; a last step pulls it back to the data."""
    item = film()
    plain = Session(film_bundles, "film-smooth", residual=None, fitness="ignore")
    assert item.coil_maps is not None
    start = (item.coil_maps.conj() * to_image(item.data)).sum(1)
    smooth = start + 0.25 * (start.roll(1, 0) + start.roll(-1, 0) - 2 * start)
    images = plain(item)
    for image, right in zip(images, smooth, strict=True):
        torch.testing.assert_close(image.data[0], right, rtol=1e-4, atol=1e-5)
    pulled = Session(film_bundles, "film-smooth", residual=None, fitness="ignore", consistency=1e-3)
    closer = float(pulled(item.replace(wanted=(1,)))[0].meta.first("ScansideDataConsistency"))
    assert closer < 0.5 * float(images[1].meta.first("ScansideDataConsistency"))


@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_network_that_begins_with_low_rank_plus_sparse(film_bundles: Path, scale: float) -> None:
    """It gives what it is given, which is what trainings have."""
    item = film()
    assert item.coil_maps is not None
    adjoint = (item.coil_maps.conj() * to_image(item.data)).sum(1)[:, 0]
    right = film_start(adjoint, item.coil_maps[:, 0], item.mask[:, 0])
    images = Session(film_bundles, "film-begun")(item.replace(data=scale * item.data))
    for image, one in zip(images, right, strict=True):
        assert image.meta.first("ScansideEngine") == "film-begun"
        torch.testing.assert_close(image.data[0, 0] / scale, one, rtol=1e-3, atol=1e-4)


# When the network's images are not to be had


def assert_fell_back(images: list[Image], session: Session, why: str, item: KSpace) -> None:
    right = sense_images(item)
    assert len(images) == len(right)
    for image, one in zip(images, right, strict=True):
        assert image.meta["ScansideFallback"][:2] == ["sense", why]
        torch.testing.assert_close(image.data, one, rtol=1e-3, atol=1e-4)
    assert session.scan.metrics[f"engine.fallback.{why}"] == 1
    assert any("classical fallback 'sense'" in told for told in session.scan.warnings)


def wanted_alone(item: KSpace, frames: list[int]) -> KSpace:
    return item.replace(
        data=item.data[frames], mask=item.mask[frames], headers=item.headers[frames], wanted=None
    )


def film_images(item: KSpace, *stages: Stage[Any, Any]) -> list[torch.Tensor]:
    """Images of a chain of stages."""
    items: list[Any] = [item]
    for stage in stages:
        stage.prepare(Context(device="cpu"))
        stage.open(small_scan())
        items = [made for one in items for made in stage.process(one)]
    return [image.data for image in items]


FAULTS: dict[str, tuple[str, Callable[..., torch.Tensor]]] = {
    "nan": ("non-finite", lambda engine, *inputs: engine(*inputs) * float("nan")),
    "moved": ("data-consistency", lambda engine, *inputs: engine(*inputs).roll(3, -1)),
    "late frame": ("data-consistency", lambda engine, *inputs: engine(*inputs).roll(2, 2)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_frames_fall_back_one_by_one(session: Session, fault: str) -> None:
    why, call = FAULTS[fault]
    item = film(wanted=(1, 2))
    session.break_engine(call)
    images = session(item)
    assert repetitions(images) == [11, 12]
    assert_fell_back(images, session, why, wanted_alone(item, [1, 2]))


def test_deadline_of_a_window(film_bundles: Path) -> None:
    import threading

    released = threading.Event()
    session = Session(film_bundles, deadline_ms=100)

    def late(engine: Any, *inputs: torch.Tensor) -> torch.Tensor:
        released.wait(300)
        return engine(*inputs)  # type: ignore[no-any-return]

    session.break_engine(late)
    item = film(wanted=(0,))
    assert_fell_back(session(item), session, "deadline", wanted_alone(item, [0]))
    released.set()


# The fallback of films

FILM_STAGES: dict[str, Callable[[], tuple[Stage[Any, Any], ...]]] = {
    "view-sharing": lambda: (ShareViews(), Fourier(combine="maps")),
    "low-rank-sparse": lambda: (ReconstructLowRankSparse(),),
}


@pytest.mark.parametrize("wanted", [None, (1, 2)])
@pytest.mark.parametrize("name", FILM_STAGES)
def test_film_falls_back_as_a_film(film_bundles: Path, name: str, wanted: tuple[int, ...] | None) -> None:
    """All frames of the window take part, and the wanted ones become images: no others."""
    session = Session(film_bundles, fallback={name: {}})
    five = film(kt_lines(5), wanted=wanted)
    images = session(five)
    right = film_images(five, *FILM_STAGES[name]())
    assert repetitions(images) == [10 + frame for frame in wanted or range(5)]
    for image, one in zip(images, right, strict=True):
        assert image.meta["ScansideFallback"][:2] == [name, "unfit"]
        assert "windows of 4 frames and no others" in image.meta["ScansideFallback"][2]
        torch.testing.assert_close(image.data, one, rtol=1e-4, atol=1e-5)
    assert any(f"classical fallback '{name}'" in told for told in session.scan.warnings)


@pytest.mark.parametrize("fault", FAULTS)
def test_film_falls_back_whatever_the_fault(film_bundles: Path, fault: str) -> None:
    why, call = FAULTS[fault]
    session = Session(film_bundles, fallback={"view-sharing": {}})
    session.break_engine(call)
    item = film(wanted=(0, 3))
    images = session(item)
    assert [image.meta["ScansideFallback"][:2] for image in images] == [["view-sharing", why]] * 2
    for image, one in zip(images, film_images(item, *FILM_STAGES["view-sharing"]()), strict=True):
        torch.testing.assert_close(image.data, one, rtol=1e-4, atol=1e-5)


BOTH = ({"low-rank-sparse": {}}, {"view-sharing": {}}, {"sense": {}})


def test_the_first_fallback_goes_out_where_it_is_in_time(film_bundles: Path) -> None:
    session = Session(film_bundles, fallback=BOTH, fallback_ms=1e6)
    for _ in range(2):
        images = session(film(kt_lines(5)))
        assert {image.meta["ScansideFallback"][0] for image in images} == {"low-rank-sparse"}
        assert "ScansideFallbackTime" not in images[0].meta


def test_a_fallback_that_is_late_gives_way_from_the_first_window_on(film_bundles: Path) -> None:
    """The film is of one piece: what took too long is dropped, and not tried again in this scan."""
    session = Session(film_bundles, fallback=BOTH, fallback_ms=1e-3)
    five = film(kt_lines(5))
    for _ in range(2):
        images = session(five)
        # Both are slower than that, and the last one may be.
        assert [image.meta["ScansideFallback"][0] for image in images] == ["sense"] * 5
        slow = images[0].meta["ScansideFallbackTime"]
        assert [one.split(" took ")[0] for one in slow] == ["low-rank-sparse", "view-sharing"]
        assert "allowed are 0 ms (engine.fallback_ms)" in slow[0]
    assert session.scan.metrics["engine.fallback_late"] == 2
    assert sum("too slow a fallback for this scan" in told for told in session.scan.warnings) == 2
    session.scan = small_scan()
    session.stage.open(session.scan)
    session(five)
    assert session.scan.metrics["engine.fallback_late"] == 2  # another scan, another try


def test_time_of_a_window_is_that_of_the_scan() -> None:
    item = film()
    for frame, headers in enumerate(item.headers):
        headers["acquisition_time_stamp"] = 1000 + 40 * frame + np.arange(N)
    seen = item.mask[:, 0].nonzero()
    span_ms = 2.5 * (40 * (FRAMES - 1) + int(seen[-1, 1]) - int(seen[0, 1]))
    assert pace_ms(item) == pytest.approx(span_ms)
    assert pace_ms(item.replace(wanted=(2,))) == pytest.approx(span_ms / FRAMES)
    item.headers["acquisition_time_stamp"] = 7
    assert pace_ms(item) is None


def test_fallback_of_films_for_a_single_frame(film_bundles: Path) -> None:
    (image,) = Session(film_bundles, fallback=BOTH)(small_kspace(coil_maps=True))
    assert image.meta["ScansideFallback"][:2] == ["sense", "unfit"]
    alone = Session(film_bundles, fallback={"view-sharing": {}})
    with pytest.raises(ConfigError, match="fallback 'view-sharing' reconstructs windows of frames"):
        alone(small_kspace(coil_maps=True))


@pytest.mark.parametrize("n_frames", [3, 5])
def test_window_of_another_length(session: Session, n_frames: int) -> None:
    item = film(kt_lines(n_frames))
    images = session(item)
    assert_fell_back(images, session, "unfit", item)
    reason = images[0].meta["ScansideFallback"][2]
    assert f"takes windows of 4 frames and no others, and this one has {n_frames}" in reason


def test_single_frame(session: Session) -> None:
    item = small_kspace(coil_maps=True)
    (image,) = session(item)
    assert image.meta["ScansideFallback"][:2] == ["sense", "unfit"]
    assert "this is a single frame: put 'window: {size: 4}' before it" in image.meta["ScansideFallback"][2]


def test_frames_of_a_window_go_one_by_one_where_there_is_no_network_for_films(
    film_bundles: Path, learned_bundles: Path
) -> None:
    item = film(wanted=(2, 3))
    both = Session(film_bundles, ("film", str(learned_bundles / "gradient")))
    assert [image.meta.first("ScansideEngine") for image in both(item)] == ["film", "film"]
    five = film(kt_lines(5), wanted=(2, 3))
    images = both(five)
    assert repetitions(images) == [12, 13]
    assert [image.meta.first("ScansideEngine") for image in images] == ["gradient", "gradient"]


# Frames that lack lines, and data that are no numbers


def test_no_image_is_invented_of_a_frame_without_lines(session: Session) -> None:
    lines = kt_lines()
    lines[2] = False
    item = film(lines)
    images = session(item)
    assert repetitions(images) == [10, 11, 13]
    assert [image.meta.first("ScansideEngine") for image in images] == ["film"] * 3
    assert session.scan.metrics["engine.frames_without_lines"] == 1
    assert any("frame 2 of a window of 4 along repetition" in told for told in session.scan.warnings)
    assert session(item.replace(wanted=(2,))) == []


def test_fallback_invents_nothing_either(session: Session) -> None:
    lines = kt_lines()
    lines[2] = False
    session.break_engine(lambda engine, *inputs: engine(*inputs) * float("nan"))
    assert repetitions(session(film(lines, wanted=(2, 3)))) == [13]


def test_zeros(session: Session) -> None:
    item = film()
    images = session(item.replace(data=torch.zeros_like(item.data)))
    assert len(images) == FRAMES
    for image in images:
        assert not bool(image.data.any())
        assert "zero" in image.meta.first("ScansideEmpty")


def test_no_numbers(session: Session) -> None:
    item = film()
    item.data[2, 1, 0, 8, 7] = float("nan")
    with pytest.raises(NonFiniteError, match=r"scan counter .*holds NaN"):
        session(item)


# Fitness


def dense(lines: torch.Tensor) -> torch.Tensor:
    lines[1] = True
    return lines


UNTRAINED: dict[str, Callable[[], torch.Tensor]] = {
    "acceleration 1, trained for 1.2–4": lambda: dense(kt_lines()),
    "sampling equispaced, trained for kt": lambda: kt_lines()[:1].repeat(FRAMES, 1),
}


@pytest.mark.parametrize("what", UNTRAINED)
def test_not_trained_for(session: Session, what: str) -> None:
    images = session(film(UNTRAINED[what]()))
    assert any(what in told for told in images[0].meta["ScansideFitness"])
    assert images[0].meta.first("ScansideEngine") == "film"
    assert session.scan.metrics["engine.untrained"] == 1


def test_random_lines_are_what_it_was_trained_for(session: Session) -> None:
    generator = torch.Generator().manual_seed(0)
    lines = torch.rand(FRAMES, N, generator=generator) < 0.4
    lines[:, CENTRE] = True
    assert "ScansideFitness" not in session(film(lines))[0].meta


def test_films_of_classical_images_are_not_made(film_bundles: Path, tmp_path: Path) -> None:
    import shutil

    from scanside.engines.bundle import replace_manifest

    shutil.copytree(film_bundles / "film-smooth", tmp_path / "film-smooth")
    replace_manifest(tmp_path / "film-smooth", input_image="cg-sense")
    with pytest.raises(ConfigError, match="wants films of 'cg-sense' images"):
        Session(tmp_path, "film-smooth")
