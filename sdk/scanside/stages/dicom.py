"""Images as DICOM, beside the stream."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from scanside.context import Context
from scanside.dicom.destination import Destination
from scanside.dicom.files import encoded, file_path, write_durably
from scanside.dicom.spool import Spool
from scanside.errors import ScansideError
from scanside.items import Image
from scanside.scan import Scan, ScanEnd
from scanside.scratch import remove_abandoned
from scanside.stage import Stage, StageConfig

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from scanside.dicom.dataset import DicomExporter
    from scanside.dicom.store import Sender

__all__ = ["ExportDicom"]

logger = logging.getLogger(__name__)


class ExportDicom(Stage[Image, Image]):
    """Writes images as DICOM and sends them to an archive; the images themselves go on as they came.

    Its place is behind ``finish``. What is to be sent is first put into a spool folder and leaves it when the archive
    has confirmed it, however often that takes; a thread of its own sends, also what an earlier process left there.
    Images of several slices wait until each slice has come once, so that viewers scroll by position; where the header
    does not announce how many there are, they wait for the scan's end.
    Nothing that goes wrong ends a scan: the operator is told, the scan's metrics count it (``dicom.failed``), and an
    image that could not be written says so in its attribute ``ScansideDicom``.
    """

    class Config(StageConfig):
        """Settings.

        Attributes:
            folder: where files are kept, in a folder for each series.
            send: archive that gets the images, ``host:port``.
            spool: folder of images that are still to be sent; needed for `send`.
            called_title: the archive's application entity title.
            calling_title: our own.
            timeout_s: longest wait for an answer of the archive.
            patient: ``anonymous`` leaves out who was examined; ``header`` tells what the scan's header does.
            wait_s: how long the end of a scan waits until its images are sent, if the archive takes them; the rest is
                sent later.
        """

        RESERVED = frozenset({"folder", "send", "spool", "called_title", "calling_title", "patient"})

        folder: Path | None = None
        send: str | None = None
        spool: Path | None = None
        called_title: str = "ANY-SCP"
        calling_title: str = "SCANSIDE"
        timeout_s: float = Field(30.0, gt=0)
        patient: Literal["anonymous", "header"] = "anonymous"
        wait_s: float = Field(0.0, ge=0)

        @model_validator(mode="after")
        def _has_somewhere_to_go(self) -> ExportDicom.Config:
            if self.folder is None and self.send is None:
                raise ValueError("images have nowhere to go: set folder, or send and spool")
            if (self.send is None) != (self.spool is None):
                raise ValueError("send and spool belong together: what is to be sent waits in the spool")
            if self.send is not None:
                self.destination(self.send)
            return self

        def destination(self, address: str) -> Destination:
            """Where images are sent.

            Raises:
                ConfigError: the address or a title is none.
            """
            return Destination.parse(address, self.called_title, self.calling_title, self.timeout_s)

    config: Config

    def prepare(self, context: Context) -> None:
        """Make the folders, and begin to send what waits in the spool."""
        # What needs pydicom is imported here: a pipeline without this stage does without it.
        from scanside.dicom.dataset import DicomExporter

        self._exporter_type = DicomExporter
        self._exporter: DicomExporter | None = None
        self._sender: Sender | None = None
        if self.config.folder is not None:
            self.config.folder.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.config.folder, "*/.*.part")
        self._start_sender()

    def open(self, scan: Scan) -> None:
        """A new scan."""
        self._scan = scan
        self._exporter = self._exporter_type(scan, self.config.patient)
        self._start_sender()

    def process(self, item: Image) -> Iterator[Image]:
        """Write one image."""
        assert self._exporter is not None, "a scan is open"
        try:
            self._write(self._exporter.instances(item))
        except Exception as error:  # noqa: BLE001 — the image is worth more than its copy
            meta = item.meta.copy()
            meta["ScansideDicom"] = f"not written: {self._failed(error)}"
            item = item.replace(meta=meta)
        yield item

    def finish(self, end: ScanEnd) -> Iterator[Image]:
        """Write what waited for slices, and tell the operator if the archive has not got everything."""
        self._write_rest()
        sender = self._sender
        if sender is not None and (n := sender.settle(self.config.wait_s)) and sender.problem is not None:
            self._scan.warn(f"{n} DICOM images wait to be sent: {sender.problem}")
        yield from ()

    def close(self) -> None:
        """Also of a scan that failed, the images that were made are written."""
        self._write_rest()
        self._exporter = None

    def _write_rest(self) -> None:
        for dataset in () if self._exporter is None else self._exporter.finish():
            try:
                self._write([dataset])
            except Exception as error:  # noqa: BLE001 — the others may still be written
                self._failed(error)

    def _failed(self, error: Exception) -> str:
        """Note that something was not written; gives the reason."""
        self._scan.count("dicom.failed")
        why = _reason(error)
        logger.debug("an image was not written as DICOM", exc_info=error)
        self._scan.warn(f"an image was not written as DICOM: {why}")
        return why

    def _write(self, datasets: Iterable[Dataset]) -> None:
        for dataset in datasets:
            content = encoded(dataset)
            # Sent first: a folder that is full must not keep an image from the archive.
            if self._sender is not None:
                self._sender.spool.add(content, str(dataset.SOPInstanceUID))
                self._sender.wake()
            if self.config.folder is not None:
                write_durably(file_path(dataset, self.config.folder), content)
            self._scan.count("dicom.written")

    def _start_sender(self) -> None:
        """Threads do not survive a fork: where workers are forked after `prepare`, each starts its own."""
        send, spool = self.config.send, self.config.spool
        if send is None or spool is None or (self._sender is not None and self._sender.is_alive()):
            return
        from scanside.dicom.store import Sender

        self._sender = Sender(Spool(spool), self.config.destination(send))
        self._sender.start()
        weakref.finalize(self, self._sender.stop, 0)


def _reason(error: Exception) -> str:
    """Without the folders of this machine, as warnings also reach hosts on the network."""
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}: see to the space and the rights of its folders"
    return str(error) if isinstance(error, ScansideError) else f"{type(error).__name__}: {error}"
