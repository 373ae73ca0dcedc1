"""A scan: what its header says, what was noticed about it, and how it ended."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scanside.agreement.finding import Finding
from scanside.mrd.header import Encoding, MrdHeader
from scanside.texts import printable, shortened

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Scan", "ScanEnd"]

logger = logging.getLogger(__name__)

_LONGEST_WARNING = 2000
_MOST_WARNINGS = 200


@dataclass(frozen=True, slots=True)
class ScanEnd:
    """How a scan ended.

    Attributes:
        complete: the producer closed the stream properly.
        reason: why not, for an operator.
    """

    complete: bool = True
    reason: str | None = None


@dataclass(slots=True)
class Scan:
    """One scan, as its stages see it.

    Attributes:
        header: the parsed header.
        pipeline: name of the pipeline that reconstructs it.
        warnings: what an operator should know, in the order in which it was noticed, each once.
        findings: where header and data contradict each other; those worth a warning are among the warnings too.
        parameters: settings that the host sent with the scan (TEXT before the data), by name.
        metrics: how often something happened, by a name such as ``engine.fallback.deadline``, for whoever watches.
        joins_frames: a stage joins the frames of films, and calibrates over them itself.
        whitening: ``(coil, coil)``, the matrix by which a stage has made the noise of the image's lines white, with a
            variance of 1 in the real part; None where none did.
        channels: receiver channels, counted from 0, that the coils of the data are; empty for all in their order.
        corrected_by: names of stages that take care of certain findings (`Finding.corrected_by`).
    """

    header: MrdHeader
    pipeline: str = ""
    warnings: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: Counter[str] = field(default_factory=Counter)
    joins_frames: bool = False
    whitening: npt.NDArray[np.complex128] | None = None
    channels: tuple[int, ...] = ()
    corrected_by: set[str] = field(default_factory=set)

    @classmethod
    def from_xml(cls, xml: bytes | str, pipeline: str = "") -> Scan:
        """A scan from its header; what the header's reader noticed is told to the operator.

        Raises:
            HeaderError: the header cannot be used.
        """
        scan = cls(MrdHeader.parse(xml), pipeline)
        for text in scan.header.warnings:
            scan.warn(text)
        return scan

    def encoding(self, index: int = 0) -> Encoding:
        """One of the scan's encoding spaces.

        Raises:
            HeaderError: there is no such encoding space.
        """
        return self.header.encoding(index)

    def count(self, name: str) -> None:
        """Count that something happened."""
        self.metrics[name] += 1

    def warn(self, text: str) -> None:
        """Note something that an operator should know; repeated texts are noted once.

        Of very many, the first are noted, and that there were more.
        """
        # It may quote the scan's own data.
        text = printable(shortened(text, _LONGEST_WARNING))
        if len(self.warnings) >= _MOST_WARNINGS:
            text = f"there were more than {_MOST_WARNINGS} warnings; the others are left out"
        if text not in self.warnings:
            self.warnings.append(text)
            logger.warning("%s", text)

    def find(self, finding: Finding) -> None:
        """Note that header and data contradict each other; what is more than a note is told to the operator.

        What a stage takes care of is no contradiction.
        """
        if finding not in self.findings and finding.corrected_by not in self.corrected_by:
            self.findings.append(finding)
            if finding.level != "note":
                self.warn(finding.text)
