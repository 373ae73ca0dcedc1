"""From a bundle to an engine that runs: built, accepted, chosen, loaded."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scanside.engines.archive import save_graph
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle, BundleWriter
from scanside.engines.cache import EngineCache
from scanside.engines.choice import Candidate
from scanside.engines.engine import Engine
from scanside.engines.graph import bind
from scanside.engines.taken_times import EngineTime, Times
from scanside.engines.times import Timekeeper, kept_times
from scanside.errors import EngineError, EngineNotBuilt, ShapeError
from scanside.recon.consistency import film_sampling_inputs
from scanside.testing.backends import small_source


@pytest.fixture
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.open(bundle_folder)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def absent(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make the import of packages fail, as where they are not installed."""
    for package in packages:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)


def known_speeds(monkeypatch: pytest.MonkeyPatch, **speeds: float) -> None:
    """How fast the engines of a tiny network are says nothing: let their order be known."""

    def times(self: Timekeeper, candidates: list[Candidate], *, measure: bool) -> Times:
        return Times(
            weights_sha256="w",
            shape=(64, 64),
            n_coils=None,
            threads=1,
            created=datetime(2026, 1, 2, tzinfo=timezone.utc),
            engines=tuple(
                EngineTime(
                    engine=one.entry.key.digest,
                    backend=one.backend,
                    precision=one.precision,
                    ms=speeds[one.backend],
                    busy=0.0,
                )
                for one in candidates
                if one.entry is not None
            ),
        )

    monkeypatch.setattr(Timekeeper, "times", times)


def test_nothing_is_built_or_judged_unasked(bundle: Bundle, cache: EngineCache) -> None:
    """Not even an eager engine, whose acceptance alone can take minutes."""
    with pytest.raises(EngineNotBuilt, match=r"no engine of 'tiny' for 64×64 has been built on this machine"):
        Engine.load(bundle, (50, 60), cache=cache, build=False)
    assert list(cache.entries()) == []


def test_engine_that_was_accepted_before_runs_without_building(bundle: Bundle, cache: EngineCache) -> None:
    Engine.load(bundle, (64, 64), cache=cache, name="eager", precision="fp32")
    engine = Engine.load(bundle, (64, 64), cache=cache, build=False)
    image = torch.randn(1, 2, 64, 64)
    assert torch.equal(engine(image), 2 * image)
    assert engine.backend == "eager"
    assert "openvino fp32: absent, not built on this machine yet" in str(engine.choice)
    assert engine.provenance["weights_sha256"] == bundle.manifest.weights_sha256
    assert engine.provenance["backend"] == "eager"
    assert engine.report.passed


def test_engines_are_timed_against_each_other_where_nobody_waits(
    bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("scanside.engines.engine.NAMES", ("eager", "openvino"))
    for name in ("eager", "openvino"):
        Engine.load(bundle, (64, 64), cache=cache, name=name, precision="fp32")
    Engine.load(bundle, (64, 64), cache=cache, precision="fp32", build=False)
    assert kept_times(cache) == []
    said: list[str] = []
    engine = Engine.load(bundle, (64, 64), cache=cache, precision="fp32", progress=said.append)
    (times,) = kept_times(cache)
    assert {one.backend for one in times.engines} == {"eager", "openvino"}
    assert said[-1] == "timing 2 engines at 64×64"
    assert engine.backend == min(times.engines, key=lambda one: one.ms).backend


def test_of_two_workers_that_start_one_builds(
    bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other waits, and takes what was built."""
    flock, said = fcntl.flock, []

    def worker(progress: Callable[[str], None]) -> Candidate:
        (one,) = Workshop(BundleSource(bundle, (64, 64)), cache, progress).candidates(("eager",), "fp32")
        return one

    def after_the_other(*args: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        assert worker(lambda _: None).accepted
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", after_the_other)
    assert worker(said.append).accepted
    assert said == []


def test_smaller_images_are_padded_and_cropped(bundle: Bundle, cache: EngineCache) -> None:
    engine = Engine.load(bundle, (50, 60), cache=cache, name="eager")
    assert engine.shape == (64, 64)
    image = torch.randn(1, 2, 50, 60)
    assert torch.equal(engine(image), 2 * image)
    image.requires_grad_()
    traced = engine.traced(image)
    assert torch.equal(traced.detach(), 2 * image.detach())
    (gradient,) = torch.autograd.grad(traced.sum(), image)
    assert float(gradient.sum()) == pytest.approx(2 * image.numel())
    with pytest.raises(ShapeError, match="65×60 does not fit into this engine of 64×64"):
        engine(torch.randn(1, 2, 65, 60))
    assert Engine.load(bundle, (129, 64), cache=cache, name="eager").shape == (136, 96)
    with pytest.raises(ShapeError, match="takes images of up to 640×640"):
        Engine.load(bundle, (641, 64), cache=cache)


def test_accepted_engines_are_built_once(
    bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    said: list[str] = []
    first = Engine.load(
        bundle, (64, 64), cache=cache, name="openvino", precision="fp32", progress=said.append
    )
    assert said == ["building openvino fp32 at 64×64", "checking openvino fp32 at 64×64"]
    second = Engine.load(
        bundle, (64, 64), cache=cache, name="openvino", precision="fp32", progress=said.append
    )
    assert len(said) == 2
    image = torch.randn(1, 2, 64, 64)
    assert torch.equal(first(image), second(image))
    assert second.report == first.report


def test_without_openvino_and_then_onnxruntime_the_system_works() -> None:
    """In a process of its own: three run times on top of what hundreds of tests have loaded are another matter."""
    inner = f"{__file__}::test_backends_are_taken_away"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", inner]
    run = subprocess.run(
        command, env={**os.environ, "SCANSIDE_TEST_ALONE": "1"}, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout or "1 skipped" in run.stdout


@pytest.mark.skipif("SCANSIDE_TEST_ALONE" not in os.environ, reason="the test above runs it by itself")
def test_backends_are_taken_away(bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("eager", "onnxruntime", "openvino")
    monkeypatch.setattr("scanside.engines.engine.NAMES", names)
    known_speeds(monkeypatch, openvino=1.0, onnxruntime=2.0, eager=3.0)
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    image = torch.randn(1, 2, 64, 64)

    def used() -> Engine:
        engine = Engine.load(bundle, (64, 64), cache=cache, precision="fp32")
        assert torch.equal(engine(image), 2 * image)
        return engine

    assert used().backend == "openvino"
    absent(monkeypatch, "openvino")
    second = used()
    assert second.backend == "onnxruntime"
    assert "openvino fp32: absent, openvino cannot be imported" in str(second.choice)
    absent(monkeypatch, "onnxruntime")
    third = used()
    assert third.backend == "eager"
    assert "onnxruntime fp32: absent, onnxruntime cannot be imported" in str(third.choice)
    assert "pip install 'scanside[openvino]'" in str(third.choice)


def test_backend_that_must_be_used_and_is_absent_is_an_error(
    bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent(monkeypatch, "openvino")
    with pytest.raises(
        EngineError, match=r"no engine of the backend 'openvino'.*can be used(?s:.*)pip install"
    ):
        Engine.load(bundle, (64, 64), cache=cache, name="openvino")


def test_precision_that_is_not_offered(bundle: Bundle, cache: EngineCache) -> None:
    with pytest.raises(EngineError, match="eager bf16: absent, bundle 'tiny' has no graph in bf16"):
        Engine.load(bundle, (64, 64), cache=cache, name="eager", precision="bf16")


def test_engine_that_fails_at_load_gives_way_to_the_next(
    bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("openvino")
    from scanside.engines.backends.openvino import OpenVino

    monkeypatch.setattr("scanside.engines.engine.NAMES", ("eager", "openvino"))
    known_speeds(monkeypatch, openvino=1.0, eager=3.0)
    assert Engine.load(bundle, (64, 64), cache=cache, precision="fp32").backend == "openvino"

    def broken(*_: object) -> None:
        raise EngineError("the library refuses")

    monkeypatch.setattr(OpenVino, "load", broken)
    engine = Engine.load(bundle, (64, 64), cache=cache, precision="fp32")
    assert engine.backend == "eager"
    assert "openvino fp32: failed, the library refuses" in str(engine.choice)
    assert "openvino fp32 is not used: the library refuses" in caplog.text


def test_engine_that_the_gate_refuses_is_not_kept(
    tmp_path: Path, cache: EngineCache, bundle_fields: Any
) -> None:
    """A network that makes something of nothing has no engine, not even an eager one."""
    bundle = written(tmp_path / "offset", bundle_fields, offset=1.0)
    with pytest.raises(
        EngineError, match=r"(?s)no engine of the backend 'eager' .*eager fp32: refused, near-zero/zeros 1 "
    ):
        Engine.load(bundle, (64, 64), cache=cache, name="eager", precision="fp32")
    (entry,) = cache.entries()
    assert not entry.report.passed
    assert list(entry.folder.iterdir()) == []


def written(folder: Path, bundle_fields: Callable[..., dict[str, Any]], offset: float) -> Bundle:
    class Offset(torch.nn.Module):
        def forward(self, weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
            return image + weights["offset"]

    weights = {"offset": torch.tensor([offset])}
    sizes = {2: torch.export.Dim("k1", min=2), 3: torch.export.Dim("k0", min=2)}
    example = (weights, torch.ones(1, 2, 8, 8))
    program = torch.export.export(Offset(), example, dynamic_shapes=({"offset": {}}, sizes))
    case = torch.randn(2, 64, 64)
    with BundleWriter(folder) as writer:
        save_graph(program, writer.path("graph.pt2"))
        save_file(weights, writer.path("weights.safetensors"))
        save_file({"real-0.image": case, "real-0.truth": case.clone()}, writer.path("vectors.safetensors"))
        writer.finish(**bundle_fields())
    return Bundle.open(folder)


@pytest.fixture
def coils_bundle(tmp_path: Path, bundle_fields: Callable[..., dict[str, Any]]) -> Bundle:
    """An unrolled network over 4 to 8 coils; maps are not used, so that it stays small."""
    source = small_source()
    inputs = [
        {"name": "image", "axes": ["batch", 2, "k1", "k0"]},
        {"name": "p", "axes": ["batch", 2, "k1", "k1"]},
        {"name": "maps", "axes": ["batch", "coil", 2, "k1", "k0"]},
    ]
    shapes = {"multiple_of": 2, "buckets": [[32, 24], [64, 64]], "coils": {"low": 4, "high": 8}}
    with BundleWriter(tmp_path / "coils") as writer:
        save_graph(source.program("fp32"), writer.path("graph.pt2"))
        save_file(dict(source.weights()), writer.path("weights.safetensors"))
        save_file({"real-0.truth": torch.zeros(2, 8, 8)}, writer.path("vectors.safetensors"))
        fields = bundle_fields(task="unrolled", lowering="pmatrix", inputs=inputs, shapes=shapes)
        writer.finish(**fields)
    return Bundle.open(tmp_path / "coils")


def test_coil_counts_that_the_bundle_takes(coils_bundle: Bundle) -> None:
    source = BundleSource(coils_bundle, (32, 24), 6)
    assert [spec.shape for spec in source.inputs] == [(1, 2, 32, 24), (1, 2, 32, 32), (1, 6, 2, 32, 24)]
    with pytest.raises(ShapeError, match=r"takes data of 4–8 coils, got 9: compress"):
        BundleSource(coils_bundle, (32, 24), 9)
    with pytest.raises(ShapeError, match="got no coil count"):
        BundleSource(coils_bundle, (32, 24))


def test_engine_of_another_machine_is_not_found(
    bundle: Bundle, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = BundleSource(bundle, (64, 64))
    (here,) = Workshop(source, cache).candidates(("eager",), "fp32")
    assert here.accepted
    monkeypatch.setattr("scanside.engines.backends.base.cpu_fingerprint", lambda: "cpu another")
    said: list[str] = []
    (there,) = Workshop(source, cache, said.append).candidates(("eager",), "fp32")
    assert said, "the engine of one machine was used on another"
    assert there.entry is not None
    assert there.entry.report.hardware == "cpu another"


def film_inputs(k1: int = 24, k0: int = 24, n_frames: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(1, 2, n_frames, k1, k0, generator=generator)
    maps = torch.randn(1, 3, 2, k1, k0, generator=generator)
    maps = maps / maps.square().sum((1, 2), keepdim=True).sqrt()
    mask = (torch.rand(1, n_frames, k1, 1, generator=generator) < 0.5).float()
    return image, maps, torch.full((1, 1, 1, 1), 0.02), *film_sampling_inputs("pmatrix", mask)


def test_windows_of_frames(film_bundles: Path, cache: EngineCache) -> None:
    """Accepted on its vectors, a smaller film is padded in space and computed as it is."""
    bundle = Bundle.open(film_bundles / "film")
    engine = Engine.load(bundle, (24, 24), 3, cache=cache, name="eager")
    assert engine.report.passed
    checks = {check.name for check in engine.report.checks}
    assert {"refuses/longer", "relative-error/frame-empty", "relative-error/mask-one-line"} <= checks
    assert engine.n_frames == 4
    assert engine.provenance["shape"] == "4×24×24"
    expected = bind(BundleSource(bundle, (24, 22), 3))(*film_inputs(24, 22))
    found = engine(*film_inputs(24, 22))
    assert found.shape == (1, 2, 4, 24, 22)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for inputs in (film_inputs(n_frames=5), tuple(one[:, :, 0] for one in film_inputs()[:1])):
        with pytest.raises(ShapeError, match=r"takes windows of 4 frames and no others.*has (5|1)"):
            engine(*inputs)


def test_compiled_windows(film_bundles: Path, cache: EngineCache) -> None:
    pytest.importorskip("openvino")
    engine = Engine.load(
        Bundle.open(film_bundles / "film-smooth"), (24, 24), cache=cache, name="openvino", precision="fp32"
    )
    image, *_ = film_inputs(20, 24)
    expected = image + 0.25 * (image.roll(1, 2) + image.roll(-1, 2) - 2 * image)
    torch.testing.assert_close(engine(image), expected, rtol=1e-5, atol=1e-5)
