from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from scanside.dicom.files import encoded, file_path, write_durably


def test_file(parts: Any, export: Any, tmp_path: Path) -> None:
    (dataset,) = export(parts.image(), patient="header")
    path = file_path(dataset, tmp_path)
    write_durably(path, encoded(dataset))
    assert path.parts[-2:] == (dataset.SeriesInstanceUID, f"{dataset.SOPInstanceUID}.dcm")
    read = dcmread(path)
    assert read == dataset
    assert read.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert read.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half a file under the final name, nor remains; an earlier file stays whole."""
    path = tmp_path / "sub" / "a.dcm"
    write_durably(path, b"first")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_durably(path, b"second")
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [("a.dcm", b"first")]
