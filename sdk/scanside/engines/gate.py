"""Acceptance: no engine is used that was not compared with the eager fp32 network it was made from.

What is compared, and why, is in the project's notes on engines: trained weights, because random ones say nothing
about reduced precision; real inputs and hard ones; in a fresh process, because compilers leave traces in theirs.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from scanside import metrics
from scanside.engines.backends.base import Backend, Precision, Runner, Source
from scanside.engines.backends.eager import Eager
from scanside.engines.check import read_check, relative_error, write_check
from scanside.engines.fresh import run_fresh
from scanside.engines.manifest import AcceptanceReport, Check, GateLimits
from scanside.engines.passing import passes
from scanside.engines.probes import Probe
from scanside.errors import EngineError, EnginePostponed, EngineRejected, ShapeError

__all__ = ["Reference", "accept", "describe", "refused_report", "short_check"]

NEAR_ZERO = 0.05
"""Largest root mean square of what may come of nothing; that of a normalised image is about 0.5."""


@dataclass(frozen=True)
class Reference:
    """What the eager fp32 network makes of every probe, in the shapes of one engine.

    Attributes:
        probes: the inputs, which can be gone through again; the first one is real.
        outputs: one per probe.
    """

    probes: Iterable[Probe]
    outputs: tuple[torch.Tensor, ...]

    @property
    def stored(self) -> tuple[Probe, torch.Tensor]:
        """The probe that is kept beside an engine, and what is expected of it: one that takes little room."""
        pairs = zip(self.probes, self.outputs, strict=True)
        return next((pair for pair in pairs if pair[0].repeats), (self.first, self.outputs[0]))

    @property
    def first(self) -> Probe:
        """A real one."""
        return next(iter(self.probes))

    @classmethod
    def compute(cls, source: Source, probes: Iterable[Probe]) -> Reference:
        """Run the eager network.

        Args:
            source: graph, weights and shapes.
            probes: see `scanside.engines.probes`.
        """
        eager = Eager().load(Path(), source, "fp32")
        return cls(probes, tuple(eager(*probe.inputs) for probe in probes))


def accept(
    backend: Backend,
    source: Source,
    precision: Precision,
    folder: Path,
    reference: Reference,
    limits: GateLimits | None = None,
) -> AcceptanceReport:
    """Measure one engine.

    Leaves the engine's short check in its folder.

    Args:
        backend: that built it.
        source: that it was built from.
        precision: in which.
        folder: where.
        reference: what it is compared with.
        limits: that the errors must keep.

    Returns:
        All measurements; ``report.passed`` is the verdict. An engine that cannot be loaded or run gives a failed
        check, no exception.

    Raises:
        EnginePostponed: it could not be judged for a reason that passes: memory, disk, time.
    """
    limits = limits or GateLimits()
    median = None
    checks: list[Check] = []
    try:
        names = [spec.name for spec in source.inputs]
        probe, expected = reference.stored
        write_check(folder, names, probe.inputs, expected, probe.repeats)
        if backend.carries_network:
            # First, since native code that crashes when it is loaded must not take this process with it.
            fresh = _fresh(backend.name, precision, folder, _error_limit(precision, limits))
            checks.append(fresh)
            if fresh.note:  # it did not come to a result there
                return _report(backend, source, precision, checks, None)
        runner = backend.load(folder, source, precision)
        real_norm = float(reference.outputs[0].double().norm())
        times = []
        for probe, expected in zip(reference.probes, reference.outputs, strict=True):
            begun = time.perf_counter()
            result = runner(*probe.inputs)
            times.append(1e3 * (time.perf_counter() - begun))
            checks += _compared(result, probe, expected, real_norm, precision, limits)
        checks += _refusals(runner, reference.first.inputs)
        median = statistics.median(times[1:] or times)  # the first finds code and memory cold
        backend.settle(runner, folder)
    except Exception as error:  # whatever a backend raises, it was not accepted
        if passes(error):
            raise EnginePostponed(f"not judged now, and tried again the next time: {error}") from error
        checks.append(Check(name="runs", passed=False, note=f"{type(error).__name__}: {error}"))
    return _report(backend, source, precision, checks, median)


def refused_report(backend: Backend, source: Source, precision: Precision, why: str) -> AcceptanceReport:
    """The report of an engine that could not be built at all."""
    return _report(backend, source, precision, [Check(name="builds", passed=False, note=why)], None)


def _report(
    backend: Backend, source: Source, precision: Precision, checks: Sequence[Check], median_ms: float | None
) -> AcceptanceReport:
    coils = [spec.shape[1] for spec in source.inputs if spec.name == "maps"]
    return AcceptanceReport(
        backend=backend.name,
        precision=precision,
        shape=(source.inputs[0].shape[-2], source.inputs[0].shape[-1]),
        n_coils=coils[0] if coils else None,
        hardware=backend.hardware(),
        versions=backend.versions(),
        checks=tuple(checks),
        created=datetime.now(timezone.utc),
        median_ms=median_ms,
    )


def short_check(runner: Runner, folder: Path, precision: Precision, limits: GateLimits | None = None) -> None:
    """Run an engine that was loaded on the input that was stored at its acceptance.

    Args:
        runner: the engine.
        folder: that it was loaded from.
        precision: as built.
        limits: that the error must keep.

    Raises:
        EngineRejected: its output is no longer what it was.
        EngineError: the stored check cannot be read.
    """
    limit = _error_limit(precision, limits or GateLimits())
    error = read_check(folder).error_of(runner)
    if not error <= limit:
        raise EngineRejected(
            f"the engine in {folder} was accepted, but now differs from its network by {error:.2g} relative to it "
            f"(limit {limit:g}): build it again"
        )


def describe(report: AcceptanceReport) -> str:
    """The report for people: one line, and one for each check that failed."""
    worst = [c.value for c in report.checks if c.name.startswith("relative-error/") and c.value is not None]
    size = "×".join(map(str, report.shape)) + (f", {report.n_coils} coils" if report.n_coils else "")
    verdict = "accepted" if report.passed else "refused"
    timed = f", {report.median_ms:.1f} ms" if report.median_ms else ""
    error = f", largest relative error {max(worst):.2g}" if worst else ""
    lines = [f"{report.backend} {report.precision} at {size}: {verdict}{error}{timed}"]
    for check in report.failures:
        numbers = "" if check.value is None else f" {check.value:.3g} (limit {check.limit:g})"
        lines.append(f"  {check.name}{numbers} {check.note}".rstrip())
    return "\n".join(lines)


def _error_limit(precision: Precision, limits: GateLimits) -> float:
    return limits.fp32_relative_error if precision == "fp32" else limits.reduced_relative_error


def _compared(
    result: torch.Tensor,
    probe: Probe,
    expected: torch.Tensor,
    real_norm: float,
    precision: Precision,
    limits: GateLimits,
) -> Iterator[Check]:
    if result.shape != expected.shape:
        note = f"gave {tuple(result.shape)}, expected {tuple(expected.shape)}"
        yield Check(name=f"shape/{probe.name}", passed=False, note=note)
        return
    finite = bool(result.isfinite().all())
    yield Check(name=f"finite/{probe.name}", passed=finite)
    if not finite:
        return
    if not bool(probe.inputs[0].any()):
        # What instance norms make of nothing is rounding, blown up; that it is small is all that can be asked.
        yield _bounded(f"near-zero/{probe.name}", float(result.square().mean().sqrt()), NEAR_ZERO)
        return
    # Of nearly nothing the network makes nearly nothing: an error there is seen against a real image.
    error = relative_error(result, expected, at_least=real_norm)
    yield _bounded(f"relative-error/{probe.name}", error, _error_limit(precision, limits))
    if precision != "fp32" and probe.truth is not None and probe.inside is not None:
        # Behind the channels of the image there may be another output.
        images = [_magnitude(probe.inside.crop(image[0, : len(probe.truth)])) for image in (expected, result)]
        truth = _magnitude(probe.truth)
        psnr = [metrics.psnr(image, truth) for image in images]
        ssim = [_ssim(image, truth) for image in images]
        yield _bounded(f"psnr-loss-db/{probe.name}", psnr[0] - psnr[1], limits.psnr_loss_db)
        yield _bounded(f"ssim-loss/{probe.name}", ssim[0] - ssim[1], limits.ssim_loss)


def _bounded(name: str, value: float, limit: float) -> Check:
    if not math.isfinite(value):
        return Check(name=name, limit=limit, passed=False, note="not finite")
    return Check(name=name, value=value, limit=limit, passed=value <= limit)


def _ssim(image: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Of an image ``(k1, k0)``, or the mean over the frames ``(time, k1, k0)``."""
    frames = zip(image.reshape(-1, *image.shape[-2:]), truth.reshape(-1, *truth.shape[-2:]), strict=True)
    return statistics.fmean(metrics.ssim(one, other) for one, other in frames)


def _magnitude(image: torch.Tensor) -> npt.NDArray[np.float32]:
    """``(1 or 2, *, k1, k0)`` to the magnitude ``(*, k1, k0)``."""
    magnitude: npt.NDArray[np.float32] = image.detach().square().sum(0).sqrt().cpu().numpy()
    return magnitude


def _refusals(runner: Runner, inputs: tuple[torch.Tensor, ...]) -> Iterator[Check]:
    """Inputs that must not be computed on: another size, window, type or layout, one too few."""
    first, *others = inputs
    wrong = {
        "larger": (torch.cat((first, first[..., :1]), dim=-1), *others),
        "smaller": (first[..., :-1].contiguous(), *others),
        "double": (first.double(), *others),
        "strided": (first.mT.contiguous().mT, *others),
        "missing": tuple(others),
    }
    if first.ndim == 5:
        wrong["longer"] = (torch.cat((first, first[:, :, :1]), dim=2), *others)
    for what, given in wrong.items():
        try:
            runner(*given)
        except ShapeError:
            yield Check(name=f"refuses/{what}", passed=True)
        else:
            yield Check(name=f"refuses/{what}", passed=False, note="it computed something")


def _fresh(name: str, precision: Precision, folder: Path, limit: float) -> Check:
    try:
        return _bounded("fresh-process", run_fresh(name, precision, folder), limit)
    except EnginePostponed:
        raise
    except EngineError as error:
        return Check(name="fresh-process", limit=limit, passed=False, note=str(error))
