"""Stages by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints

import pytest

import scanside.registry
from scanside.errors import MissingExtra, PipelineError
from scanside.registry import GROUP, load_stage, stage_names
from scanside.stages.grappa import Grappa

SHIPPED = {
    "accumulate", "coil-maps", "filter", "finish", "fourier", "grappa", "noise", "oversampling", "sense"
}  # fmt: skip

Register = Callable[..., None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Pretend that distributions are installed that register these (name, object) pairs."""

    def pretend(*pairs: tuple[str, str]) -> None:
        points = EntryPoints(EntryPoint(name, value, GROUP) for name, value in pairs)
        monkeypatch.setattr(scanside.registry, "entry_points", lambda group: points.select(group=group))

    return pretend


def test_shipped_stages() -> None:
    assert set(stage_names()) >= SHIPPED
    assert stage_names() == sorted(stage_names())
    assert load_stage("grappa") is Grappa


def test_listing_imports_no_stage() -> None:
    code = "import scanside.registry as r, sys; assert r.stage_names(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_typo_gets_a_suggestion() -> None:
    with pytest.raises(PipelineError, match=r"there is no stage 'grapa': did you mean 'grappa'\?"):
        load_stage("grapa")
    with pytest.raises(PipelineError, match=r"there is no stage 'xyzzy': known are: accumulate, .*sense"):
        load_stage("xyzzy")


def test_nothing_registered(register: Register) -> None:
    register()
    assert stage_names() == []
    with pytest.raises(PipelineError, match="known are: none"):
        load_stage("grappa")


def test_same_stage_twice_is_one(register: Register) -> None:
    """As where a package is found both installed and in a source folder."""
    register(*[("g", "scanside.stages.grappa:Grappa")] * 2)
    assert stage_names() == ["g"]
    assert load_stage("g") is Grappa


def test_a_disputed_name_harms_nobody_else(register: Register) -> None:
    register(("mine", "b.c:D"), ("g", "scanside.stages.grappa:Grappa"), ("mine", "a.b:C"))
    assert stage_names() == ["g", "mine"]
    assert load_stage("g") is Grappa
    with pytest.raises(PipelineError, match=r"two distributions register a stage 'mine': a\.b:C and b\.c:D"):
        load_stage("mine")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (
            "no_such_module:Stage",
            r"stage 'mine' \(no_such_module:Stage\) cannot be imported: ModuleNotFoundError",
        ),
        ("scanside.stages.grappa:Grapa", "cannot be imported: AttributeError: .*Grapa"),
        ("broken_for_test:Stage", "cannot be imported: ZeroDivisionError: division by zero"),
        ("scanside.stages.grappa:grappa", "is no subclass of scanside.Stage"),
        ("scanside.items:Image", "is no subclass of scanside.Stage"),
    ],
)
def test_what_is_no_stage(
    register: Register,
    value: str,
    said: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path_factory.mktemp("broken")
    (folder / "broken_for_test.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(folder)
    register(("mine", value))
    with pytest.raises(PipelineError, match=said):
        load_stage("mine")


def test_a_missing_extra_says_so_itself(
    register: Register, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("extra")
    (folder / "needs_extra_for_test.py").write_text(
        "from scanside.errors import MissingExtra\nraise MissingExtra('torch', 'torch', 'this stage')\n"
    )
    monkeypatch.syspath_prepend(folder)
    register(("mine", "needs_extra_for_test:Stage"))
    with pytest.raises(MissingExtra, match="this stage needs"):
        load_stage("mine")


def test_torch_is_missing(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register(("needs-torch", "needs_torch_here:Stage"))

    def no_torch(self: EntryPoint) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(EntryPoint, "load", no_torch)
    with pytest.raises(MissingExtra, match=r"stage 'needs-torch' needs .* pip install 'scanside\[torch\]'"):
        load_stage("needs-torch")
