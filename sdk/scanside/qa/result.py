"""What one check of the phantom found."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from scanside._version import __version__
from scanside.qa.verdict import Verdict

__all__ = ["QaResult"]


class QaResult(BaseModel):
    """One check.

    Attributes:
        time: of the check.
        scan: name of the raw file.
        protocol: of the scan.
        system: vendor and model of the scanner.
        field_strength_t: in tesla; None where the header does not say.
        n_coils: receive channels.
        pipeline: that made the images.
        learned: pipeline whose image is compared with them; empty without one.
        engine: bundle, version and weights of the learned image.
        slice: that was measured.
        n_repetitions: images of it.
        snr: mean signal over the standard deviation of the noise; None where no noise could be had.
        snr_method: ``difference`` of repetitions, or ``replicas`` with noise added.
        diameters_mm: of the phantom along x (read), y (phase) and both diagonals.
        nominal_mm: diameter that the phantom has; None where it was not given.
        ghosting: ghosting ratio; None where there is too little air around the phantom.
        piu: percent integral uniformity.
        agreement: NRMSE of the learned image against the classical one, inside the phantom; None where there is none.
        notes: what to know of the measures, such as a fallback.
        verdicts: each measure against its limits.
        version: of Scanside.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: datetime
    scan: str
    protocol: str = ""
    system: str = ""
    field_strength_t: float | None = None
    n_coils: int | None = None
    pipeline: str
    learned: str = ""
    engine: tuple[str, ...] = ()
    slice: int
    n_repetitions: int
    snr: float | None
    snr_method: str = ""
    diameters_mm: dict[str, float]
    nominal_mm: float | None = None
    ghosting: float | None
    piu: float
    agreement: float | None = None
    notes: tuple[str, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    version: str = __version__

    @property
    def passed(self) -> bool:
        """Whether every measure lies within its limits."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def comparable(self) -> tuple[object, ...]:
        """Checks with equal values can be compared: the same scan on the same system by the same pipeline."""
        return self.protocol, self.system, self.field_strength_t, self.n_coils, self.pipeline, self.slice
