"""An installed plan becomes an engine when the gate has accepted it on this GPU, and says so until then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside.engines import catalog
from scanside.engines.backends.tensorrt_rtx import TensorRtRtx
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle, replace_manifest, sign_bundle
from scanside.engines.cache import EngineCache
from scanside.engines.choice import Candidate
from scanside.engines.engine import Engine
from scanside.engines.plan_record import PLAN_FILE
from scanside.engines.plan_states import PlanState, plan_states
from scanside.engines.plan_store import PlanStore, sign_plan
from scanside.engines.signing import generate_key
from scanside.engines.trust import TrustPolicy
from scanside.errors import EngineError, EngineNotBuilt, EnginePostponed

Planned = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> EngineCache:
    """The engines of this machine, on which the small bundle is found by its name."""
    monkeypatch.setenv("SCANSIDE_ENGINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SCANSIDE_ENGINES", str(bundle_folder.parent))
    monkeypatch.setattr(catalog, "_SHIPPED", tmp_path / "none")
    return EngineCache()


def candidate(
    bundle: Bundle, cache: EngineCache, shape: tuple[int, int] = (64, 64), *, build: bool = True
) -> Candidate:
    workshop = Workshop(BundleSource(bundle, shape), cache)
    (one,) = workshop.candidates(("tensorrt_rtx",), "fp32", build=build)
    return one


def state(cache: EngineCache) -> PlanState:
    (one,) = plan_states(cache)
    return one


def test_from_an_installed_plan_to_an_accepted_engine(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    bundle = Bundle.open(bundle_folder)
    PlanStore(cache).install(plan_folder)
    waiting = state(cache)
    assert (waiting.state, waiting.why) == ("waiting", "not tried on this GPU yet")
    assert waiting.advice == "scanside engines build tiny --backend tensorrt_rtx --bucket 64x64"
    found = candidate(bundle, cache, build=False)
    assert found.unbuilt
    assert found.reason == "its plan is installed, and was not tried on this GPU yet"
    assert rtx_gpu.given == []
    with pytest.raises(EngineNotBuilt):
        Engine.load(bundle, (64, 64), name="tensorrt_rtx", build=False)

    accepted = candidate(bundle, cache)
    assert accepted.accepted
    assert accepted.entry is not None
    names = {path.name for path in accepted.entry.folder.iterdir()}
    assert names == {"engine.plan", "plan.json", "check.safetensors", "kernels.bin"}
    assert {path.stat().st_mode & 0o777 for path in accepted.entry.folder.iterdir()} == {0o600}
    here = state(cache)
    assert (here.state, here.advice) == ("accepted", "")
    assert here.why.startswith("on cuda NVIDIA RTX A4000 sm86 driver 570.1, ")

    # Later loads take it from the cache, with its kernels, while a scan runs as well.
    engine = Engine.load(bundle, (64, 64), name="tensorrt_rtx", build=False)
    torch.testing.assert_close(engine(torch.ones(1, 2, 64, 64)), torch.full((1, 2, 64, 64), 2.0))
    assert rtx_gpu.engine.kernels.read == [b"kernels"]


def test_plan_that_computes_something_else_is_refused(
    rtx_gpu: Any, bundle_folder: Path, planned: Planned, cache: EngineCache, tmp_path: Path
) -> None:
    PlanStore(cache).install(planned(tmp_path / "wrong", bundle_folder, b"times 3"))
    refused = candidate(Bundle.open(bundle_folder), cache)
    assert refused.entry is not None
    assert not refused.accepted
    here = state(cache)
    assert here.state == "refused"
    assert "relative-error" in here.why
    # It is not tried again, and another plan in its place is.
    tried = len(rtx_gpu.given)
    assert not candidate(Bundle.open(bundle_folder), cache).accepted
    assert len(rtx_gpu.given) == tried
    PlanStore(cache).install(planned(tmp_path / "right", bundle_folder))
    assert candidate(Bundle.open(bundle_folder), cache).accepted


def test_plan_that_the_library_refuses_is_refused(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    rtx_gpu.engine, rtx_gpu.says = None, ("the weights are in another order",)
    PlanStore(cache).install(plan_folder)
    assert not candidate(Bundle.open(bundle_folder), cache).accepted
    assert "cannot read the plan (the weights are in another order)" in state(cache).why


def test_plan_is_accepted_anew_for_another_driver(
    rtx_gpu: Any,
    bundle_folder: Path,
    plan_folder: Path,
    cache: EngineCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    PlanStore(cache).install(plan_folder)
    assert candidate(Bundle.open(bundle_folder), cache).accepted
    monkeypatch.setattr(TensorRtRtx, "hardware", lambda self: "cuda NVIDIA RTX A4000 sm86 driver 580.2")
    assert state(cache).state == "waiting"
    assert candidate(Bundle.open(bundle_folder), cache, build=False).entry is None


def test_removed_plan_is_no_engine_any_more(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    plan = PlanStore(cache).install(plan_folder)
    assert candidate(Bundle.open(bundle_folder), cache).accepted
    shutil.rmtree(plan.folder)
    gone = candidate(Bundle.open(bundle_folder), cache)
    assert (gone.entry, gone.reason) == (None, "torch-tensorrt-rtx is not installed")


def test_full_gpu_is_tried_again(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    PlanStore(cache).install(plan_folder)
    rtx_gpu.validity = (2, 16)
    full = candidate(Bundle.open(bundle_folder), cache)
    assert full.postponed
    assert "not enough memory on the GPU" in full.reason
    with pytest.raises(EnginePostponed):
        Engine.load(Bundle.open(bundle_folder), (64, 64), name="tensorrt_rtx")
    rtx_gpu.validity = (0, 0)
    assert candidate(Bundle.open(bundle_folder), cache).accepted


# Plans that are of no use here: each is told with its reason, and nothing of it is read.


def said(
    bundle: Bundle, cache: EngineCache, rtx_gpu: Any, shape: tuple[int, int] = (64, 64), build: bool = True
) -> str:
    one = candidate(bundle, cache, shape, build=build)
    assert one.entry is None
    assert rtx_gpu.given == rtx_gpu.examined == []
    return one.reason


@pytest.mark.parametrize("build", [True, False])
def test_plan_for_another_gpu(
    build: bool, rtx_gpu: Any, bundle_folder: Path, planned: Planned, cache: EngineCache, tmp_path: Path
) -> None:
    PlanStore(cache).install(planned(tmp_path / "plans", bundle_folder, targets=("12.0",)))
    words = "is for GPUs of compute capability 12.0, and NVIDIA RTX A4000 has 8.6"
    assert f"the installed plan {words}" in said(Bundle.open(bundle_folder), cache, rtx_gpu, build=build)
    here = state(cache)
    assert here.state == "unusable"
    assert f"it {words}" in here.why


def test_plan_of_another_version(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    PlanStore(cache).install(plan_folder)
    rtx_gpu.__version__ = "1.6.1.120"
    reason = said(Bundle.open(bundle_folder), cache, rtx_gpu)
    assert reason.startswith(
        "the installed plan was built with TensorRT-RTX 1.5.0.114, and runs with no other"
    )
    assert reason.endswith("; torch-tensorrt-rtx is not installed")
    assert state(cache).state == "unusable"


def test_plan_for_other_shapes(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    PlanStore(cache).install(plan_folder)
    reason = said(Bundle.open(bundle_folder), cache, rtx_gpu, (128, 96))
    assert "the plans that are installed for it are others: tiny-1.2.3-64x64-fp32" in reason


def test_plan_that_was_changed_where_it_lies(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    plan = PlanStore(cache).install(plan_folder)
    (plan.folder / PLAN_FILE).write_bytes(b"times 3")
    assert "engine.plan was changed" in said(Bundle.open(bundle_folder), cache, rtx_gpu)
    assert state(cache).state == "damaged"
    (plan.folder / PLAN_FILE).write_bytes(b"times")
    assert "has 5 bytes, the record says 7" in said(Bundle.open(bundle_folder), cache, rtx_gpu)
    PlanStore(cache).install(plan_folder)
    assert candidate(Bundle.open(bundle_folder), cache).accepted


def test_unsigned_plan_under_policy(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache, tmp_path: Path
) -> None:
    private, public, _ = generate_key(tmp_path / "keys", "site")
    (tmp_path / "trusted").mkdir(mode=0o700)
    shutil.copy(public, tmp_path / "trusted")
    policy = TrustPolicy(require_signature=True, keys=tmp_path / "trusted")
    sign_bundle(bundle_folder, private)
    bundle = Bundle.open(bundle_folder, policy)
    store = PlanStore(cache)
    store.install(plan_folder)
    assert "is not signed, and signatures are required here" in said(bundle, cache, rtx_gpu)
    # Nor is it, once a pipeline that asks for no signature has had it accepted.
    assert candidate(Bundle.open(bundle_folder), cache).accepted
    assert "is not signed" in candidate(bundle, cache).reason
    sign_plan(plan_folder, private)
    store.install(plan_folder, policy)
    assert candidate(bundle, cache).accepted
    assert str(state(cache).signer).startswith("unknown key")  # among those that this account trusts


def test_store_that_others_can_write(
    rtx_gpu: Any, bundle_folder: Path, plan_folder: Path, cache: EngineCache
) -> None:
    PlanStore(cache).install(plan_folder).folder.parent.chmod(0o777)
    reason = said(Bundle.open(bundle_folder), cache, rtx_gpu)
    assert "cannot be trusted, as engines are code and its mode 0777 lets others write" in reason


def test_machine_without_gpu_or_libraries(
    bundle_folder: Path, plan_folder: Path, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TensorRtRtx, "available", lambda self: "there is no NVIDIA driver")
    bundle = Bundle.open(bundle_folder)
    assert candidate(bundle, cache).reason == "there is no NVIDIA driver"
    PlanStore(cache).install(plan_folder)
    assert candidate(bundle, cache).reason == (
        "there is no NVIDIA driver; installed and waiting for it: tiny-1.2.3-64x64-fp32"
    )
    here = state(cache)
    assert (here.state, here.why) == ("unusable", "there is no NVIDIA driver")
    with pytest.raises(EngineError, match="installed and waiting for it"):
        Engine.load(bundle, (64, 64), name="tensorrt_rtx")


def test_plan_whose_bundle_is_another_or_not_here(
    rtx_gpu: Any,
    bundle_folder: Path,
    planned: Planned,
    cache: EngineCache,
    tmp_path: Path,
) -> None:
    store = PlanStore(cache)
    other_graph = store.install(planned(tmp_path / "graph", bundle_folder, graph_sha256="1" * 64))
    assert "it was made of another graph than tiny 1.2.3 has here" in state(cache).why
    shutil.rmtree(other_graph.folder)
    store.install(planned(tmp_path / "weights", bundle_folder, weights_sha256="1" * 64))
    assert state(cache).why == "its bundle tiny 1.2.3 is not here, but 1.2.3 with other weights"
    assert candidate(Bundle.open(bundle_folder), cache).entry is None
    replace_manifest(bundle_folder, name="large")
    assert state(cache).why == "its bundle tiny 1.2.3 is not here"
    assert "install that bundle" in state(cache).advice
