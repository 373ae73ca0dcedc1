"""Learned images that are checked by lines they were not given: which image goes out, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scanside import Context, Image, KSpace
from scanside.errors import StageConfigError
from scanside.items import AxisRange
from scanside.recon.fourier import to_image, to_kspace
from scanside.recon.noise_level import noise_level
from scanside.stages._self_check import strip_width, unseen
from scanside.stages.engine import RunEngine
from scanside.testing import small_kspace, small_scan

pytestmark = pytest.mark.usefixtures("learned_bundles")

Change = Callable[[torch.Tensor], torch.Tensor]


class Session:
    """A stage whose network's images may be changed on their way, and its scan."""

    def __init__(self, change: Change | None = None, **settings: Any) -> None:
        given: dict[str, Any] = {
            "bundle": "gradient",
            "backend": "eager",
            "sizes": ((64, 64),),
            "n_coils": (6,),
            "fitness": "ignore",
            "check": "lines",
        }
        self.stage = RunEngine(**{**given, **settings})
        self.stage.prepare(Context(device="cpu"))
        if change is not None:
            for network in self.stage._networks:
                network.image = _changed(network.image, change)  # type: ignore[method-assign]
        self.scan = small_scan()
        self.stage.open(self.scan)

    def __call__(self, item: KSpace) -> Image:
        (image,) = self.stage.process(item)
        return image


def _changed(image_of: Callable[..., torch.Tensor], change: Change) -> Callable[..., torch.Tensor]:
    return lambda output, image: change(image_of(output, image))


def kspace(seed: int = 1, **changes: Any) -> KSpace:
    """64 × 64 of a body that is grainy along the phase, with a third of the lines at random, 6 coils, and noise."""
    generator = torch.Generator().manual_seed(seed)
    n = 64
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, n)] * 2, indexing="ij")
    body = (x.square() + 1.4 * y.square() < 0.7).float()
    grain = torch.randn(n, 3, generator=generator) @ torch.cos(torch.arange(3)[:, None] * 3 * x[:1])
    image = body * torch.exp(-6 * x.square()) * (1 + 0.4 * grain)
    places = [(-1, -1), (-1, 1), (1, -1), (1, 1), (0, 1.4), (1.4, 0)]
    views = [
        torch.exp(-((y - a).square() + (x - b).square()) / 1.5 + 1j * (a * y + b * x)) for a, b in places
    ]
    maps = torch.stack(views)
    maps = (maps / maps.abs().square().sum(0).sqrt() * body).to(torch.complex64)[:, None]
    mask = torch.rand(n, generator=generator) < 0.4
    mask[26:38] = True
    noise = torch.randn(2, *maps.shape, generator=generator)
    data = (to_kspace(maps * image, (-2, -1)) + 0.01 * torch.complex(*noise)) * mask[:, None]
    headers = np.repeat(small_kspace().headers[:, 12:13], n, axis=1)
    item = small_kspace().replace(
        data=data.to(torch.complex64),
        mask=mask[None],
        headers=headers,
        coil_maps=maps,
        ranges=None,
        reference=None,
        field_of_view_mm=(640.0, 640.0, 5.0),
    )
    return item.replace(**changes)


class Broken:
    """An engine that does something else."""

    def __init__(self, engine: Any, call: Callable[..., torch.Tensor]) -> None:
        self._engine, self._call = engine, call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._call(*inputs)


def damped(image: torch.Tensor) -> torch.Tensor:
    """What a network does that takes fine detail for noise: outer lines of its images are lost."""
    lines = to_kspace(image, (-2,))
    lines[..., :24, :] *= 0.2
    lines[..., 40:, :] *= 0.2
    return to_image(lines, (-2,))


def test_the_figure_is_that_of_lines_that_both_predict() -> None:
    """Both reconstructions by their formulas in double precision, without the lines; errors without their noise."""
    item = kspace()
    image = Session(fallback={"sense": {"tolerance": 1e-7, "l2": 0.01}}, worse="warn")(item)
    strip = unseen(item, 48)
    assert not isinstance(strip, str)
    left_out = strip.where[0].nonzero()[:, 0]
    assert item.coil_maps is not None
    maps = item.coil_maps[:, 0, :, 8:56].to(torch.complex128)
    hybrid = to_image(item.data[:, 0].to(torch.complex128), (-1,))[..., 8:56]
    mask = item.mask[0].double()
    mask[left_out] = 0

    def normal(u: torch.Tensor) -> torch.Tensor:
        return (maps.conj() * to_image(to_kspace(maps * u, (-2,)) * mask[:, None], (-2,))).sum(0)

    start = u = (maps.conj() * to_image(hybrid * mask[:, None], (-2,))).sum(0)
    for _ in range(8):
        u = u - (normal(u) - start)
    sense = torch.empty_like(u)
    transform = to_kspace(torch.eye(64, dtype=torch.complex128), dims=(-2,))
    for x in range(48):
        a = torch.cat([mask[:, None] * transform * one[:, x] for one in maps])
        sense[:, x] = torch.linalg.solve(a.mH @ a + 0.01 * torch.eye(64), start[:, x])
    errors = [
        float((to_kspace(maps * one, (-2,)) - hybrid)[:, left_out].abs().square().sum()) for one in (sense, u)
    ]
    noise = 2 * float(noise_level(item.data[:, 0], item.mask[0])) ** 2 * 6 * 48 * len(left_out)
    told = image.meta["ScansideCheck"]
    assert told[2:] == ["sense", f"{len(left_out)} unseen lines"]
    expected = 10 * np.log10((errors[0] - noise) / (errors[1] - noise))
    assert float(told[1].removesuffix(" dB")) == pytest.approx(expected, abs=0.02)
    assert abs(expected) > 0.2


def test_the_image_is_not_changed_by_its_check() -> None:
    item = kspace()
    for bundle in ("gradient", "smooth"):
        checked = Session(bundle=bundle, worse="warn")(item)
        plain = Session(bundle=bundle, check="none")(item)
        torch.testing.assert_close(checked.data, plain.data, rtol=0, atol=0)
        assert "ScansideCheck" not in plain.meta


def test_a_worse_image_does_not_go_out() -> None:
    item = kspace()
    session = Session(damped)
    image = session(item)
    assert image.meta["ScansideFallback"][:2] == ["sense", "self-check"]
    assert image.meta["ScansideCheck"][0] == "worse"
    assert image.meta["ScansideCheck"][1].startswith("-")
    assert session.scan.metrics == {"engine.check.worse": 1, "engine.fallback.self-check": 1}
    (told,) = session.scan.warnings
    assert "'gradient' predicts lines worse than 'sense' does" in told
    broken = Session(lambda image: image * float("nan"), check="none")(item)
    torch.testing.assert_close(image.data, broken.data)


def test_a_worse_image_goes_out_with_a_warning() -> None:
    session = Session(damped, worse="warn")
    images = [session(kspace()) for _ in range(2)]
    for image in images:
        assert image.meta["ScansideEngine"][0] == "gradient"
        assert image.meta["ScansideCheck"][0] == "worse"
    (told,) = session.scan.warnings
    assert "goes out all the same (engine.worse)" in told
    assert session.scan.metrics == {"engine.check.worse": 2, "engine.images": 2}


def test_a_better_image_goes_out() -> None:
    """Beside a fallback that fits hardly anything."""
    session = Session(fallback={"sense": {"l2": 3.0}})
    image = session(kspace())
    assert image.meta["ScansideEngine"][0] == "gradient"
    assert image.meta["ScansideCheck"][0] == "better"
    assert image.meta["ScansideCheck"][1].startswith("+")
    assert session.scan.metrics == {"engine.check.better": 1, "engine.images": 1}
    assert session.scan.warnings == []


@pytest.mark.parametrize("factor", [1 + 1e-6, 0.998])
def test_images_that_are_alike_are_undecided(factor: float) -> None:
    """The fallback's own solution, and one that is a little worse on each line alike."""
    session = Session(bundle="smooth", fallback={"sense": {}})
    session.stage._networks[0].image = lambda _, image: image * factor  # type: ignore[method-assign]
    image = session(kspace())
    assert image.meta["ScansideCheck"][0] == "undecided"
    assert abs(float(image.meta["ScansideCheck"][1].removesuffix(" dB"))) < 0.1
    assert image.meta["ScansideEngine"][0] == "smooth"


def test_wrong_maps_send_the_zero_filled_image() -> None:
    """Maps upside down explain nothing: what uses them does worse than nothing, which the lines tell, too."""
    item = kspace()
    assert item.coil_maps is not None
    session = Session(residual=None)
    session.stage._map_check.of = lambda _: None  # type: ignore[method-assign]
    assert session(item).meta["ScansideCheck"][0] != "worse than nothing"
    image = session(item.replace(coil_maps=item.coil_maps.flip(-2)))
    assert image.meta["ScansideFallback"][:2] == ["fourier", "self-check"]
    assert image.meta["ScansideCheck"][0] == "worse than nothing"
    assert any("coil maps and lines disagree" in told for told in session.scan.warnings)
    expected = (
        to_image(item.data, (-2, -1)).abs().square().sum(0).sqrt()[..., 20:44]
    )  # the header's field of view
    torch.testing.assert_close(image.data[0].abs(), expected, rtol=1e-4, atol=1e-4)


def test_a_strip_is_judged() -> None:
    """Of data and maps the same columns, where coils see most; without the lines."""
    item = kspace()
    found = unseen(item, 20)
    assert not isinstance(found, str)
    assert found.item.data.shape == (6, 1, 64, 20)
    assert found.item.extent_mm[0] == pytest.approx(item.extent_mm[0] * 20 / 64)
    left_out = found.where[0].nonzero()[:, 0]
    assert len(left_out) >= 3
    assert bool(item.mask[0, left_out].all())
    mask = item.mask[0].clone()
    mask[left_out] = False
    torch.testing.assert_close(found.item.mask[0], mask)
    hybrid = to_image(item.data, (-1,))[..., 22:42]
    torch.testing.assert_close(to_image(found.item.data, (-1,)), hybrid * mask[:, None])
    assert item.coil_maps is not None
    torch.testing.assert_close(found.item.coil_maps, item.coil_maps[..., 22:42])


def test_a_quarter_of_the_columns_is_judged_and_some_at_least() -> None:
    assert [strip_width(n, 8) for n in (256, 192, 320, 64, 24)] == [64, 48, 80, 48, 24]
    assert strip_width(200, 16) == 64


def test_where_there_are_no_lines_to_leave_out_the_image_says_so() -> None:
    item = kspace()
    mask = torch.zeros_like(item.mask)
    mask[:, [4, *range(26, 38), 50, 60]] = True
    session = Session()
    image = session(item.replace(mask=mask, data=item.data * mask[..., None]))
    word, why = image.meta["ScansideCheck"]
    assert word == "none"
    assert "there are no lines to leave out: 15 of 64 were acquired" in why
    assert image.meta["ScansideEngine"][0] == "gradient"
    assert session.scan.metrics["engine.check.none"] == 1
    assert any("was not checked (engine.check): there are no lines" in told for told in session.scan.warnings)


def test_of_nothing_there_is_nothing_to_check() -> None:
    item = kspace()
    image = Session()(item.replace(data=torch.zeros_like(item.data)))
    assert image.meta["ScansideCheck"] == ["none", "all acquired lines are zero"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ranges": (AxisRange(9, 63, 32), AxisRange(0, 63, 32), AxisRange(0, 0, 0))}, "asymmetric echo"),
        ({"coil_maps": torch.zeros(6, 1, 64, 64, dtype=torch.complex64)}, "maps are zero"),
    ],
)
def test_what_no_strip_can_be_made_of(changes: dict[str, Any], why: str) -> None:
    found = unseen(kspace(**changes), 48)
    assert isinstance(found, str)
    assert why in found


def test_a_check_that_fails_costs_no_image() -> None:
    session = Session()
    stage = session.stage
    network = stage._networks[0]
    narrow = network.strip_engine(stage.engines[0], 48, stage._context)

    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("out of memory")

    network._strips = {key: Broken(narrow, fail) for key in network._strips}  # type: ignore[misc]
    image = session(kspace())
    assert image.meta["ScansideEngine"][0] == "gradient"
    assert image.meta["ScansideCheck"][0] == "none"
    assert "out of memory" in image.meta["ScansideCheck"][1]


def test_without_an_engine_for_strips_the_network_itself_is_run(tmp_path: Path) -> None:
    session, item = Session(), kspace()
    built = session(item).meta["ScansideCheck"]
    session.stage._networks[0]._strips = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path))
        assert session(item).meta["ScansideCheck"] == built


def test_frames_are_judged_together() -> None:
    first, second = kspace(), kspace(2)
    item = first.replace(
        data=torch.stack([first.data, second.data]),
        mask=torch.stack([first.mask, second.mask]),
        headers=np.stack([first.headers, second.headers]),
        other=("repetition",),
        counters={"slice": 0},
    )
    session = Session(damped)
    images = list(session.stage.process(item))
    assert {image.meta["ScansideFallback"][1] for image in images} == {"self-check"}
    alone = [int(unseen(one, 48).where.sum()) for one in (first, second)]  # type: ignore[union-attr]
    assert [image.meta["ScansideCheck"][3] for image in images] == [f"{sum(alone)} unseen lines"] * 2


def test_no_operator_hears_of_the_checks_own_images() -> None:
    session = Session(fallback={"sense": {"max_iterations": 1, "tolerance": 1e-9}}, worse="warn")
    session(kspace())
    assert not any("stopped after" in told for told in session.scan.warnings)


def test_there_must_be_something_to_compare_with() -> None:
    with pytest.raises(StageConfigError, match=r"name one in engine\.fallback"):
        RunEngine(bundle="gradient", check="lines", fallback=None)


def test_a_scan_is_followed_by_another() -> None:
    session, item = Session(), kspace()
    first = session(item)
    session.stage.close()
    session.stage.open(small_scan())
    assert session(item).meta["ScansideCheck"] == first.meta["ScansideCheck"]
