"""Reading a file once and telling what is in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scanside.agreement import Comparison, Finding, Level
from scanside.errors import FileFormatError, FormatError, HeaderError, StreamError
from scanside.inspection.checks import check
from scanside.inspection.outline import outline_of
from scanside.inspection.survey import Collector, EncodingSurvey, Survey
from scanside.mrd.dtypes import TICK_MS
from scanside.mrd.files import Hdf5Recording, Recording, StreamRecording, open_recording
from scanside.mrd.header import MrdHeader
from scanside.mrd.readouts import Readouts
from scanside.outline import Outline

__all__ = ["Inspection", "inspect_file"]


_LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(slots=True)
class Inspection:
    """What is in a file.

    Attributes:
        path: the file.
        format: ``ISMRMRD HDF5``, ``ISMRMRD stream`` or ``MRD 2 stream``.
        group: the HDF5 group that was read; empty for a stream.
        header: the scan's header; None where there is none or it cannot be used.
        survey: what was read.
        findings: what looks wrong, errors first.
        outline: what `scanside.suitability.pipelines_for` asks stages about; None without lines of an image.
        broken: errors that must be mended before any pipeline can take the scan.
    """

    path: Path
    format: str
    group: str
    header: MrdHeader | None
    survey: Survey
    findings: list[Finding]
    outline: Outline | None = None
    broken: tuple[str, ...] = ()

    @property
    def n_readouts(self) -> int:
        """All readouts, noise and navigators included."""
        return len(self.survey.headers)

    @property
    def encodings(self) -> list[EncodingSurvey]:
        """Encoding spaces that occur."""
        return self.survey.encodings

    @property
    def worst(self) -> Level | None:
        """The gravest level among the findings; None where nothing looks wrong."""
        return self.findings[0].level if self.findings else None

    @property
    def duration_s(self) -> float | None:
        """From the first to the last readout, if time stamps count 2.5 ms; None without time stamps."""
        stamps = self.survey.headers["acquisition_time_stamp"].astype(np.int64)
        if not len(stamps) or not stamps.any():
            return None
        return float(np.ptp(stamps)) * TICK_MS / 1e3


def inspect_file(path: str | Path, group: str | None = None) -> Inspection:
    """Read a file to its end and tell what is in it.

    A file that is damaged further on is inspected as far as it can be read; the rest is an error among the
    findings.

    Args:
        path: an ISMRMRD HDF5 file, or an ISMRMRD or MRD 2 stream.
        group: the HDF5 group; by default ``dataset``, or the only one there is.

    Raises:
        FileFormatError: the file is neither, or has no such group.
        StreamError: a stream breaks off before its header.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    findings: list[Finding] = []
    with open_recording(path, group) as recording:
        is_mrd2 = isinstance(recording, StreamRecording) and recording.schema is not None
        read = recording.group if isinstance(recording, Hdf5Recording) else None
        header = _header(recording, findings)
        collector = Collector()
        comparison = None if header is None else Comparison(header)
        try:
            for item in recording.items():
                if comparison is not None and isinstance(item, Readouts):
                    item = comparison.take(item)
                collector.take(item)
        except (FormatError, StreamError) as error:
            findings.append(Finding("error", f"reading ended early: {error}"))
    survey = collector.survey(header)
    outline: Outline | None = None
    contradictions: list[Finding] = []
    checked: list[Finding] = []
    if header is not None and comparison is not None:
        contradictions, checked = comparison.findings(), check(header, survey)
        outline = outline_of(header, survey, contradictions)
    elif not findings and len(survey.headers):
        findings.append(Finding("error", "there are readouts, but no header says what they are"))
    # Stages that take care of contradictions, or do not mind them, say so themselves.
    broken = tuple(finding.text for finding in (*findings, *checked) if finding.level == "error")
    findings += [*contradictions, *checked]
    return Inspection(
        path=path,
        format="MRD 2 stream" if is_mrd2 else "ISMRMRD stream" if read is None else "ISMRMRD HDF5",
        group=read or "",
        header=header,
        survey=survey,
        findings=sorted(findings, key=lambda finding: _LEVELS.index(finding.level)),
        outline=outline,
        broken=broken,
    )


def _header(recording: Recording, findings: list[Finding]) -> MrdHeader | None:
    try:
        return MrdHeader.parse(recording.header_xml)
    except FileFormatError:
        return None  # files that hold images only need none
    except HeaderError as error:
        findings.append(Finding("error", str(error)))
    return None
