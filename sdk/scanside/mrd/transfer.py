"""Copy a scan from one kind of file to another."""

from __future__ import annotations

from pathlib import Path

from scanside.errors import MessageError
from scanside.mrd.files import StreamWriter, open_recording
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.messages import ImageMessage, Readouts, Waveform
from scanside.mrd.v2.schemas import NEWEST, known_schema

__all__ = ["MRD2_SUFFIX", "copy_scan", "scan_writer"]

MRD2_SUFFIX = ".mrd"
"""Of MRD 2 streams, as Pingvin's and mrd-python's tools name them."""


def scan_writer(output: Path, header_xml: bytes) -> StreamWriter | Hdf5Writer:
    """What writes a scan: an MRD 2 stream of the newest version if the name ends in ``.mrd``, else ISMRMRD HDF5."""
    if output.suffix == MRD2_SUFFIX:
        return StreamWriter(output, header_xml, schema=known_schema(NEWEST))
    return Hdf5Writer(output, header_xml)


def copy_scan(source: Path, output: Path) -> int:
    """Copy a scan; what the other format cannot say is told in the log.

    Args:
        source: ISMRMRD HDF5 file, ISMRMRD or MRD 2 stream.
        output: see `scan_writer`.

    Returns:
        How many readouts were copied.

    Raises:
        MessageError: the scan holds something that the other format has no place for.
        ScansideError: the source cannot be read.
    """
    n = 0
    with open_recording(source) as recording, scan_writer(output, recording.header_xml) as writer:
        for item in recording.items():
            if not isinstance(item, (Readouts, Waveform, ImageMessage)):
                raise MessageError(
                    f"{source} holds {type(item).__name__}, which {output} has no place for: only readouts, "
                    "waveforms and images can be copied"
                )
            writer.write(item)
            n += len(item) if isinstance(item, Readouts) else 0
    return n
