"""A plan that TensorRT-RTX built, as far as a machine without a GPU can follow it."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scanside.engines import catalog
from scanside.engines.backends.base import InputShape
from scanside.engines.backends.cuda_graph import no_gpu
from scanside.engines.backends.rtx_network import RtxNetwork, known_capabilities
from scanside.engines.backends.tensorrt_rtx import TensorRtRtx
from scanside.engines.backends.trt_build import RTX, cannot_convert
from scanside.engines.build import BundleSource, Workshop
from scanside.engines.bundle import Bundle
from scanside.engines.cache import EngineCache
from scanside.engines.engine import Engine
from scanside.engines.plan_record import PLAN_FILE
from scanside.engines.plan_states import plan_states
from scanside.engines.plan_store import PlanStore, sign_plan
from scanside.engines.plans import build_plan_folder
from scanside.engines.signing import generate_key
from scanside.engines.trust import TrustPolicy
from scanside.errors import EngineError

pytestmark = pytest.mark.plans

INPUTS = (InputShape("image", (1, 2, 64, 64)),)


@pytest.fixture(scope="module")
def real(_made_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of the small bundle."""
    if reason := cannot_convert(RTX):
        pytest.skip(reason)
    source = BundleSource(Bundle.open(_made_bundle), (64, 64))
    folder, _ = build_plan_folder(source, "fp32", tmp_path_factory.mktemp("plans"), ("8.6", "12.0"))
    return folder


@pytest.fixture
def trt(real: Path) -> Any:
    return importlib.import_module(RTX.bindings)


def test_the_library_knows_the_gpus_of_workstations(trt: Any) -> None:
    assert {"8.6", "8.9", "12.0"} <= set(known_capabilities(trt))


@pytest.mark.parametrize("content", [b"", b"no plan", "half a header"])
def test_what_is_no_plan_is_told_before_it_is_read(content: bytes | str, trt: Any, real: Path) -> None:
    data = (real / PLAN_FILE).read_bytes()[:32] if isinstance(content, str) else content
    with pytest.raises(EngineError, match="it is damaged, or no plan of this release of TensorRT-RTX"):
        RtxNetwork(trt, data, ["image"], INPUTS)


def test_machine_without_a_driver_is_told_so(trt: Any, real: Path) -> None:
    if no_gpu() is None:
        pytest.skip("this machine has a driver")
    with pytest.raises(EngineError, match=r"cannot run this plan here: .*driver"):
        RtxNetwork(trt, (real / PLAN_FILE).read_bytes(), ["image"], INPUTS)


def test_from_the_builder_to_the_scanner(
    real: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANSIDE_ENGINES", str(bundle_folder.parent))
    monkeypatch.setattr(catalog, "_SHIPPED", tmp_path / "none")
    private, public, _ = generate_key(tmp_path / "keys", "site")
    (tmp_path / "trusted").mkdir(mode=0o700)
    shutil.copy(public, tmp_path / "trusted")
    plan = Path(shutil.copytree(real, tmp_path / "plan"))
    sign_plan(plan, private)
    cache = EngineCache(tmp_path / "cache")
    policy = TrustPolicy(require_signature=True, keys=tmp_path / "trusted")
    installed = PlanStore(cache).install(plan, policy)
    assert str(installed.signer).startswith("site ")
    (state,) = plan_states(cache)
    if (reason := no_gpu()) is not None:
        assert (state.state, state.why) == ("unusable", reason)


@pytest.fixture
def gpu(real: Path) -> str:
    """Compute capability of this machine's GPU, which TensorRT-RTX can use."""
    if (reason := TensorRtRtx().available()) is not None:
        pytest.skip(reason)
    return TensorRtRtx().targets()[0]


@pytest.mark.cuda
def test_gpu_accepts_a_plan_that_is_for_it(
    gpu: str, trt: Any, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if gpu not in known_capabilities(trt):
        pytest.skip(f"TensorRT-RTX does not build for this GPU's {gpu}")
    monkeypatch.setenv("SCANSIDE_ENGINES", str(bundle_folder.parent))
    bundle, cache = Bundle.open(bundle_folder), EngineCache(tmp_path / "cache")
    folder, _ = build_plan_folder(BundleSource(bundle, (64, 64)), "fp32", tmp_path / "plans", (gpu,))
    PlanStore(cache).install(folder)
    (found,) = Workshop(BundleSource(bundle, (64, 64)), cache).candidates(("tensorrt_rtx",), "fp32")
    assert found.accepted, found
    assert found.entry is not None
    assert (found.entry.folder / "kernels.bin").stat().st_size > 0
    assert [one.state for one in plan_states(cache)] == ["accepted"]
    engine = Engine.load(bundle, (64, 64), name="tensorrt_rtx", cache=cache, build=False)
    image = torch.randn(1, 2, 64, 64)
    torch.testing.assert_close(engine(image), 2 * image)


@pytest.mark.cuda
def test_the_library_refuses_a_plan_for_another_gpu(
    gpu: str, trt: Any, bundle_folder: Path, tmp_path: Path
) -> None:
    other = next(one for one in known_capabilities(trt) if one.partition(".")[0] != gpu.partition(".")[0])
    source = BundleSource(Bundle.open(bundle_folder), (64, 64))
    folder, record = build_plan_folder(source, "fp32", tmp_path, (other,))
    with pytest.raises(EngineError, match="not for the compute capability of this GPU"):
        RtxNetwork(trt, (folder / PLAN_FILE).read_bytes(), ["image"], INPUTS)
    assert f"has {gpu}" in str(TensorRtRtx().misfit(record))
