"""A scan whose header tells everything that a header can, its images, and programs that receive DICOM."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydicom.dataset import Dataset

from scanside import Image, Scan
from scanside.dicom.dataset import DicomExporter
from scanside.dicom.header import Patient
from scanside.mrd.dtypes import IMAGE_HEADER, IMAGE_TYPES
from scanside.mrd.meta import Meta
from scanside.stages._provenance import describe_engine

STUDY_UID, FRAME_UID = "1.2.840.99999.1", "1.2.840.99999.2"

SECRETS = (
    "Roe^Jane",
    "PID-4711",
    "19700102",
    "ACC-1",
    "Who^Referred",
    "General",
    "Room 1",
    "SN-99",
    "Suspicious",
)
"""What of the full header says who was examined, where, and why."""

FULL_HEADER = f"""
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <subjectInformation><patientName>Roe^Jane</patientName><patientWeight_kg>70.5</patientWeight_kg>
  <patientID>PID-4711</patientID><patientBirthdate>1970-01-02</patientBirthdate><patientGender>F</patientGender>
 </subjectInformation>
 <studyInformation><studyDate>2026-03-04</studyDate><studyTime>08:09:10</studyTime><studyID>ST-1</studyID>
  <accessionNumber>ACC-1</accessionNumber><referringPhysicianName>Who^Referred</referringPhysicianName>
  <studyDescription>Suspicious lesion</studyDescription><studyInstanceUID>{STUDY_UID}</studyInstanceUID>
  <bodyPartExamined>HEAD</bodyPartExamined></studyInformation>
 <measurementInformation><measurementID>m_7</measurementID><seriesDate>2026-03-04</seriesDate>
  <seriesTime>08:20:30.5</seriesTime><patientPosition>HFS</patientPosition>
  <initialSeriesNumber>7</initialSeriesNumber><protocolName>t2_tse_tra</protocolName>
  <sequenceName>tir2d1_15</sequenceName><frameOfReferenceUID>{FRAME_UID}</frameOfReferenceUID>
 </measurementInformation>
 <acquisitionSystemInformation><systemVendor>MAKER</systemVendor><systemModel>Model 3</systemModel>
  <systemFieldStrength_T>2.89362</systemFieldStrength_T><institutionName>General Hospital</institutionName>
  <stationName>Room 1</stationName><deviceSerialNumber>SN-99</deviceSerialNumber></acquisitionSystemInformation>
 <experimentalConditions><H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz></experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>16</x><y>6</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>160</x><y>60</y><z>5</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>8</x><y>6</y><z>1</z></matrixSize>
   <fieldOfView_mm><x>80</x><y>60</y><z>5</z></fieldOfView_mm></reconSpace>
  <encodingLimits>
   <kspace_encoding_step_1><minimum>0</minimum><maximum>5</maximum><center>3</center></kspace_encoding_step_1>
   <contrast><minimum>0</minimum><maximum>1</maximum><center>0</center></contrast>
   <repetition><minimum>0</minimum><maximum>3</maximum><center>0</center></repetition>
   PHASES
  </encodingLimits>
  <trajectory>cartesian</trajectory>
  <parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>
   <kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor></parallelImaging>
  <echoTrainLength>15</echoTrainLength>
 </encoding>
 <sequenceParameters><TR>4000</TR><TE>12.5</TE><TE>95</TE><TI>2500</TI><flipAngle_deg>150</flipAngle_deg>
  <sequence_type>TurboSpinEcho</sequence_type></sequenceParameters>
 WAVEFORMS
</ismrmrdHeader>"""

CINE = {
    "PHASES": "<phase><minimum>0</minimum><maximum>19</maximum><center>0</center></phase>",
    "WAVEFORMS": "<waveformInformation><waveformName>ECG</waveformName><waveformType>ecg</waveformType>"
    "</waveformInformation>",
}


def full_header(**changes: str) -> str:
    """The header with parts replaced by others."""
    text = FULL_HEADER
    for old, new in {"PHASES": "", "WAVEFORMS": "", **changes}.items():
        assert old in text
        text = text.replace(old, new)
    return text


def make_image(
    data: Any = None, kind: str = "magnitude", meta: dict[str, Any] | None = None, **fields: Any
) -> Image:
    """An image of 8 × 6 voxels of 10 mm, its values rising, with fields of its header."""
    voxels = torch.as_tensor(np.arange(48.0, dtype=np.float32).reshape(6, 8) if data is None else data)
    voxels = voxels.reshape((1,) * (4 - voxels.ndim) + voxels.shape)
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["matrix_size"] = voxels.shape[:0:-1]
    header["field_of_view"] = (10 * voxels.shape[3], 10 * voxels.shape[2], 5 * voxels.shape[1])
    header["position"] = (10, -20, 30)
    header["read_dir"], header["phase_dir"], header["slice_dir"] = np.eye(3)
    header["image_type"] = IMAGE_TYPES[kind]
    header["image_index"] = header["image_series_index"] = 1
    header["acquisition_time_stamp"] = (10 * 3600 + 11 * 60 + 12) * 400 + 1
    for name, value in fields.items():
        header[name] = value
    return Image(voxels, header, Meta({"ScansidePipeline": "grappa", **(meta or {})}))


def learned_meta() -> Meta:
    """Attributes as the stage that runs networks writes them."""
    provenance = {
        "bundle": "brain-student",
        "bundle_version": "1.2.0",
        "weights_sha256": "0123456789ab" + "c" * 52,
        "backend": "openvino",
        "precision": "fp32",
        "shape": "256x256",
        "accepted": "2026-01-02",
        "hardware": "a processor",
        "versions": "torch 2",
        "signed_by": "no one",
    }
    meta = Meta()
    chosen = SimpleNamespace(backend="openvino", precision="fp32", why="12.0 ms, the fastest of 2")
    engine = SimpleNamespace(
        provenance=provenance,
        choice=SimpleNamespace(chosen=chosen),
        bundle=SimpleNamespace(manifest=SimpleNamespace(cautions=())),
    )
    describe_engine(meta, cast(Any, engine), "student")
    meta["ScansideDataConsistency"] = "0.05"
    return meta


FALLBACK = {
    "ScansidePipeline": "student",
    "ScansideFallback": ["sense", "deadline", "the engine took more than 5 ms (engine.deadline_ms)"],
}

Exports = Callable[..., list[Dataset]]


@pytest.fixture
def export() -> Exports:
    """The instances of images, made by one exporter."""

    def run(*images: Image, xml: str | None = None, patient: Patient = "anonymous") -> list[Dataset]:
        exporter = DicomExporter(Scan.from_xml(full_header() if xml is None else xml), patient)
        return list(exporter.export(images))

    return run


@pytest.fixture
def parts() -> SimpleNamespace:
    """What tests build scans and images from."""
    return SimpleNamespace(
        header=full_header,
        image=make_image,
        cine=CINE,
        learned=learned_meta(),
        fallback=FALLBACK,
        secrets=SECRETS,
        study_uid=STUDY_UID,
        frame_uid=FRAME_UID,
    )


@pytest.fixture(scope="session")
def dciodvfy() -> str:
    """Path of dicom3tools' checker."""
    return program("dciodvfy", "dicom3tools")


def program(name: str, debian_package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"'{name}' is not installed: apt-get install {debian_package}")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class StoreScp:
    """dcmtk's receiver: started and killed as often as a test likes, on one port."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        command = [program("storescp", "dcmtk"), "-od", str(self.folder), *options, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 300
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError("storescp does not listen")

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(300)
            self.process = None

    @property
    def received(self) -> list[Path]:
        return sorted(self.folder.iterdir())


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[StoreScp]:
    folder = tmp_path / "received"
    folder.mkdir()
    receiver = StoreScp(folder)
    yield receiver
    receiver.kill()
