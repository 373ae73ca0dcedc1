"""``scanside dicom``: images as DICOM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer.core import TyperGroup

from scanside.cli.console import console, err, print_json, progress_bar, table
from scanside.errors import FileFormatError

if TYPE_CHECKING:
    from scanside.dicom.destination import Destination
    from scanside.dicom.spool import Spool
    from scanside.items import Image
    from scanside.scan import Scan

__all__ = ["dicom"]


class _ExportByDefault(TyperGroup):
    """``scanside dicom IMAGES.h5`` is ``scanside dicom export IMAGES.h5``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["export", *args]
        return list(super().parse_args(ctx, args))


dicom = typer.Typer(
    cls=_ExportByDefault,
    help="Write reconstructed images as DICOM, and send them to an archive.",
    no_args_is_help=True,
)

_Called = Annotated[str, typer.Option("--called", help="The archive's application entity title.")]
_Calling = Annotated[str, typer.Option("--aet", help="Our own application entity title.")]
_Timeout = Annotated[float, typer.Option("--timeout", help="Longest wait for an answer, in seconds.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@dicom.command()
def export(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Images as 'scanside replay' writes them (ISMRMRD HDF5).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")],
    raw: Annotated[
        Path | None,
        typer.Option(help="The scan that they come from, where their file does not hold its header."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Group of IMAGES; default: dataset, or the only one.")
    ] = None,
    raw_group: Annotated[str | None, typer.Option(help="Group of the file of --raw; likewise.")] = None,
    patient: Annotated[
        str, typer.Option(help="anonymous: leave out who was examined; header: as the scan's header says.")
    ] = "anonymous",
    send_to: Annotated[
        str | None, typer.Option("--send", metavar="HOST:PORT", help="Send them to this archive.")
    ] = None,
    called: _Called = "ANY-SCP",
    aet: _Calling = "SCANSIDE",
    timeout_s: _Timeout = 30.0,
    as_json: _Json = False,
) -> None:
    """Write images as DICOM: a folder for each series, a file for each slice and frame."""
    from scanside.dicom.dataset import DicomExporter
    from scanside.dicom.destination import Destination
    from scanside.dicom.files import encoded, file_path, write_durably
    from scanside.dicom.spool import Spool
    from scanside.scan import Scan

    if patient not in ("anonymous", "header"):
        raise typer.BadParameter(f"{patient!r}; possible are anonymous and header", param_hint="--patient")
    destination = None if send_to is None else Destination.parse(send_to, called, aet, timeout_s)
    scan = Scan.from_xml(_header_of_images(images, group) if raw is None else _header_of_scan(raw, raw_group))
    exporter = DicomExporter(scan, cast(Literal["anonymous", "header"], patient))
    spool = None if destination is None else Spool(output / "spool")
    series: dict[str, dict[str, Any]] = {}
    with progress_bar("writing", hidden=as_json) as progress:
        for n, dataset in enumerate(exporter.export(_images(images, group, scan)), 1):
            content = encoded(dataset)
            path = file_path(dataset, output)
            write_durably(path, content)
            if spool is not None:
                spool.add(content, str(dataset.SOPInstanceUID))
            entry = series.setdefault(
                path.parent.name,
                {
                    "number": int(dataset.SeriesNumber),
                    "description": str(dataset.SeriesDescription),
                    "folder": str(path.parent),
                    "n_instances": 0,
                },
            )
            entry["n_instances"] += 1
            progress(n, None)
    if not series:
        where = "" if group is None else f" in its group '{group}'"
        raise FileFormatError(f"{images} holds no images{where}: give the file that 'scanside replay' wrote")
    told: dict[str, Any] = {"series": list(series.values()), "patient": patient, "research_use_only": True}
    if not as_json:
        _print_series(told["series"])
    if spool is not None and destination is not None:
        _send(spool, destination, told, as_json)
    elif as_json:
        print_json(told)


@dicom.command()
def send(
    folder: Annotated[
        Path, typer.Argument(metavar="SPOOL", help="Folder of what waits, as OUTPUT/spool of an export.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="HOST:PORT", help="The archive.")],
    called: _Called = "ANY-SCP",
    aet: _Calling = "SCANSIDE",
    timeout_s: _Timeout = 30.0,
    as_json: _Json = False,
) -> None:
    """Send what waits in a spool; what has arrived leaves it, all else stays with the reason."""
    from scanside.dicom.destination import Destination
    from scanside.dicom.spool import Spool

    _send(Spool.existing(folder), Destination.parse(to, called, aet, timeout_s), {}, as_json)


def _send(spool: Spool, destination: Destination, told: dict[str, Any], as_json: bool) -> None:
    """Send everything once, and say what became of it; exit status 1 if something still waits."""
    from scanside.dicom.store import Delivery, deliver

    with spool.sending() as ours:
        waiting = spool.waiting()
        delivery = deliver(spool, destination, waiting) if ours and waiting else Delivery()
    problem = delivery.problem if ours else "another process is sending from this spool"
    n_left = spool.n_waiting
    told |= {
        "sent": delivery.sent,
        "waiting": n_left,
        "problem": problem,
        "refused": [{"file": one.path.name, "reason": reason} for one, reason in delivery.refused],
    }
    if as_json:
        print_json(told)
    else:
        console.print(f"{delivery.sent} sent to {destination}", markup=False)
    if n_left:
        if not as_json:
            err.print(
                f"{n_left} wait in {spool.folder}: {problem}\nSend them later: scanside dicom send "
                f"{spool.folder} --to {destination.host}:{destination.port}",
                markup=False,
                soft_wrap=True,
            )
        raise typer.Exit(1)


def _header_of_images(path: Path, group: str | None) -> bytes:
    from scanside.mrd.files import open_recording

    with open_recording(path, group) as recording:
        try:
            return recording.header_xml
        except FileFormatError as error:
            raise FileFormatError(
                f"{error}; name the scan that the images come from: --raw SCAN.h5"
            ) from error


def _header_of_scan(path: Path, group: str | None) -> bytes:
    from scanside.mrd.files import open_recording

    try:
        with open_recording(path, group) as recording:
            return recording.header_xml
    except FileFormatError as error:
        raise FileFormatError(str(error).replace("--group", "--raw-group")) from error


def _images(path: Path, group: str | None, scan: Scan) -> Iterator[Image]:
    """The images of a file, whatever else it holds."""
    import h5py

    from scanside.convert import items_of
    from scanside.items import Image
    from scanside.mrd.files import open_recording
    from scanside.mrd.hdf5 import Hdf5Reader
    from scanside.mrd.messages import ImageArray, ImageMessage

    def messages() -> Iterator[Any]:
        if h5py.is_hdf5(path):
            with Hdf5Reader(path, group) as reader:
                for series in reader.image_series():
                    yield from reader.images(series)
        else:
            with open_recording(path) as recording:
                yield from recording.items()

    for message in messages():
        if isinstance(message, (ImageMessage, ImageArray)):
            for item in items_of(message, scan):
                assert isinstance(item, Image)
                yield item


def _print_series(series: list[dict[str, Any]]) -> None:
    from rich.markup import escape

    rows = table("series", "instances", "description", "folder", right=("series", "instances"))
    for one in sorted(series, key=lambda one: int(one["number"])):
        rows.add_row(
            str(one["number"]), str(one["n_instances"]), escape(one["description"]), escape(one["folder"])
        )
    console.print(rows)
    console.print("\nResearch use only.", style="dim")
