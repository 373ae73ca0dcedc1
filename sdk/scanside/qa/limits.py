"""What a check may find before somebody has to look."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from pydantic import BaseModel, ConfigDict, Field

from scanside.qa.result import QaResult
from scanside.qa.verdict import Verdict

__all__ = ["Limits"]

_BASELINE = 8
"""How many earlier checks make the baseline."""


class Limits(BaseModel):
    """Limits of a site; the defaults are those of the American College of Radiology where it has any.

    Attributes:
        snr: least signal-to-noise ratio; None for none of its own.
        snr_change: largest relative change from the median of the last checks of the same scan and pipeline.
        diameter_mm: largest difference of a diameter from the phantom's (ACR: 2 mm).
        piu: least percent integral uniformity; None takes the ACR's 87.5 below 3 T and 82 from there on.
        ghosting: largest ghosting ratio (ACR: 0.025).
        agreement: largest NRMSE of the learned image against the classical one, inside the phantom.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    snr: float | None = Field(None, gt=0)
    snr_change: float = Field(0.15, gt=0)
    diameter_mm: float = Field(2.0, gt=0)
    piu: float | None = Field(None, gt=0, le=100)
    ghosting: float = Field(0.025, gt=0)
    agreement: float = Field(0.05, gt=0)

    def judge(self, result: QaResult, earlier: Sequence[QaResult] = ()) -> list[Verdict]:
        """Every measure of a check against its limits.

        Args:
            result: the check.
            earlier: checks before it, the oldest first; those of another scan, pipeline or system do not count.
        """
        low, high = self._snr_limits(result, earlier)
        uniform = self.piu or (82.0 if (result.field_strength_t or 0) >= 2.5 else 87.5)
        verdicts = [Verdict(measure="SNR", value=result.snr, low=low, high=high)]
        for name, found in result.diameters_mm.items():
            if result.nominal_mm is None:
                verdicts.append(Verdict(measure=f"diameter {name}, mm", value=found))
                continue
            low, high = result.nominal_mm - self.diameter_mm, result.nominal_mm + self.diameter_mm
            verdicts.append(Verdict(measure=f"diameter {name}, mm", value=found, low=low, high=high))
        verdicts.append(Verdict(measure="ghosting", value=result.ghosting, high=self.ghosting))
        verdicts.append(Verdict(measure="uniformity (PIU), %", value=result.piu, low=uniform))
        if result.learned:
            verdicts.append(
                Verdict(
                    measure="learned against classical, NRMSE", value=result.agreement, high=self.agreement
                )
            )
        return verdicts

    def _snr_limits(self, result: QaResult, earlier: Sequence[QaResult]) -> tuple[float | None, float | None]:
        before = [one.snr for one in earlier if one.comparable == result.comparable and one.snr is not None]
        if not before:
            return self.snr, None
        usual = median(before[-_BASELINE:])
        return max(self.snr or 0, usual * (1 - self.snr_change)), usual * (1 + self.snr_change)
