"""Acceptance: what is right passes, and each way to be wrong is found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from scanside.engines.backends.base import Backend, Precision, Runner, Source
from scanside.engines.backends.eager import Eager
from scanside.engines.check import read_check, relative_error, write_check
from scanside.engines.gate import Reference, accept, describe, refused_report, short_check
from scanside.engines.manifest import AcceptanceReport, GateLimits
from scanside.engines.probes import Probe
from scanside.engines.shapes import Fit
from scanside.errors import EngineError, EngineRejected
from scanside.testing.backends import small_inputs, small_source

SOURCE = small_source()
SIZE = (32, 24)


class Wrong(Eager):
    """The eager network with a fault that a test names."""

    name = "wrong"

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
        if self.fault == "load":
            raise EngineError("its library is missing")
        return Faulty(super().load(folder, source, precision), self.fault)


class Faulty(Runner):
    def __init__(self, right: Runner, fault: str) -> None:
        super().__init__(right.inputs)
        self.right, self.fault = right, fault

    def _check(self, tensors: tuple[torch.Tensor, ...]) -> None:
        if self.fault != "unchecked":
            super()._check(tensors)

    def _run(self, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if self.fault == "unchecked":
            return torch.zeros(1, 2, *SIZE)
        result = self.right._run(tensors)
        weak = bool(tensors[0].abs().max() < 1e-3)
        if self.fault == "slightly off":
            return result * (1 + 2e-5)
        if self.fault == "not finite on nothing" and not tensors[0].any():
            return result / 0 * 0
        if self.fault == "something from nothing" and weak:
            return result + 0.1
        if self.fault == "blurred":
            return 0.98 * result + 0.02 * result.roll(1, -1)
        if self.fault == "another shape":
            return result[..., 1:]
        return result


def probes() -> list[Probe]:
    image, p = small_inputs()
    return [
        Probe("real-0", (image, p), image[0], Fit(SIZE, SIZE)),
        Probe("zeros", (image * 0, p)),
        Probe("weak", (image * 1e-5, p)),
    ]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.compute(SOURCE, probes())


def run(backend: Backend, precision: Precision, folder: Path, reference: Reference) -> AcceptanceReport:
    return accept(backend, SOURCE, precision, folder, reference, GateLimits())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_right_engines_pass(precision: Precision, tmp_path: Path, reference: Reference) -> None:
    report = run(Eager(), precision, tmp_path, reference)
    assert report.passed, describe(report)
    assert report.median_ms is not None
    assert report.shape == SIZE
    names = {check.name for check in report.checks}
    assert {
        "finite/zeros",
        "near-zero/zeros",
        "relative-error/weak",
        "refuses/larger",
        "refuses/strided",
    } <= names
    assert ("psnr-loss-db/real-0" in names) == (precision == "bf16")
    assert AcceptanceReport.model_validate_json(json.dumps(report.model_dump(mode="json"))) == report


@pytest.mark.parametrize(
    ("fault", "failures"),
    [
        ("load", {"runs"}),
        ("slightly off", {"relative-error/real-0"}),
        ("not finite on nothing", {"finite/zeros"}),
        ("something from nothing", {"near-zero/zeros", "relative-error/weak"}),
        ("another shape", {"shape/real-0", "shape/zeros", "shape/weak"}),
    ],
)
def test_wrong_engines_fail_by_name(
    fault: str, failures: set[str], tmp_path: Path, reference: Reference
) -> None:
    report = run(Wrong(fault), "fp32", tmp_path, reference)
    assert {check.name for check in report.failures} == failures
    assert not report.passed
    text = describe(report)
    assert text.startswith("wrong fp32 at 32×24: refused")
    assert all(name in text for name in failures)


def test_engine_that_computes_on_anything_is_refused(tmp_path: Path, reference: Reference) -> None:
    report = run(Wrong("unchecked"), "fp32", tmp_path, reference)
    failed = {check.name for check in report.failures}
    assert {
        "refuses/larger",
        "refuses/smaller",
        "refuses/double",
        "refuses/strided",
        "refuses/missing",
    } <= failed


def test_loss_against_the_truth_counts_where_the_error_alone_would_pass(
    tmp_path: Path, reference: Reference
) -> None:
    """An error of the size that bf16 may have, but all of it away from the truth."""
    first, *others = reference.probes
    close = reference.outputs[0][0] * 1.001
    near_truth = Reference((Probe("real-0", first.inputs, close, first.inside), *others), reference.outputs)
    report = run(Wrong("blurred"), "bf16", tmp_path, near_truth)
    assert "psnr-loss-db/real-0" in {check.name for check in report.failures}


def test_fresh_process_that_fails_is_a_failed_check(tmp_path: Path, reference: Reference) -> None:
    class Absent(Eager):
        """A backend of this process alone, which a new one does not know."""

        name = "absent"
        carries_network = True

    report = run(Absent(), "fp32", tmp_path, reference)
    (failure,) = report.failures
    assert failure.name == "fresh-process"
    assert "there is no engine backend 'absent'" in failure.note


def test_engine_that_crashes_when_loaded_is_refused_and_not_loaded_here(
    tmp_path: Path, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crashing(Eager):
        """Native code that ends its process."""

        name = "crashing"
        carries_network = True

        def load(self, folder: Path, source: Source, precision: Precision) -> Runner:
            raise AssertionError("it would have crashed here")

    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -SEGV $$\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    report = run(Crashing(), "fp32", tmp_path, reference)
    (failure,) = report.failures
    assert failure.name == "fresh-process"
    assert "killed by SIGSEGV" in failure.note


def test_engine_that_could_not_be_built_has_a_report() -> None:
    report = refused_report(Eager(), SOURCE, "fp32", "no compiler")
    assert not report.passed
    assert "builds no compiler" in describe(report)


def test_short_check_finds_an_engine_that_changed(tmp_path: Path, reference: Reference) -> None:
    runner = Eager().load(tmp_path, SOURCE, "fp32")
    write_check(tmp_path, ["image", "p"], reference.probes[0].inputs, reference.outputs[0])
    short_check(runner, tmp_path, "fp32")
    with pytest.raises(EngineRejected, match="was accepted, but now differs"):
        short_check(Faulty(runner, "slightly off"), tmp_path, "fp32")
    with pytest.raises(EngineRejected, match="by inf"):
        short_check(Faulty(runner, "another shape"), tmp_path, "fp32")


def test_stored_check_is_what_was_written(tmp_path: Path, reference: Reference) -> None:
    inputs = reference.probes[0].inputs
    write_check(tmp_path, ["image", "p"], inputs, reference.outputs[0])
    check = read_check(tmp_path)
    assert check.shapes == SOURCE.inputs
    assert all(torch.equal(a, b) for a, b in zip(check.inputs, inputs, strict=True))
    (tmp_path / "check.safetensors").write_bytes(b"{")
    with pytest.raises(EngineError, match="build the engine again"):
        read_check(tmp_path)


def test_relative_error_of_nothing_is_absolute() -> None:
    some, none = torch.ones(4), torch.zeros(4)
    assert relative_error(some, none) == 2.0
    assert relative_error(none, some) == 1.0
    assert relative_error(some, none, at_least=8.0) == 0.25
