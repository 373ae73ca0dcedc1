"""``scanside record``: the recorded sessions of a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanside.cli.console import console, print_json, table

if TYPE_CHECKING:
    from scanside.recording import RecordingEntry, RecordingRing

__all__ = ["record"]

record = typer.Typer(
    help="List, keep and remove recorded sessions; 'scanside replay FILE -o IMAGES.h5' plays one again.",
    no_args_is_help=True,
)

_Folder = Annotated[
    Path, typer.Option(envvar="SCANSIDE_RECORDINGS", help="Where the server keeps its recordings.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_Name = Annotated[
    str, typer.Argument(metavar="RECORDING", help="Its ID or session, or the beginning of one.")
]


@record.command("list")
def list_recordings(folder: _Folder, as_json: _Json = False) -> None:
    """List the recordings, the oldest first."""
    from rich.markup import escape

    ring = _ring(folder)
    entries = ring.entries()
    if as_json:
        print_json({"recordings": [_as_dict(ring, entry) for entry in entries]})
        return
    rows = table(
        "recording",
        "pipeline",
        "outcome",
        "fallbacks",
        "images",
        "MB",
        "kept for",
        right=("fallbacks", "images", "MB"),
    )
    for entry in entries:
        outcome = entry.outcome if entry.complete else f"{entry.outcome}, [yellow]incomplete[/]"
        kept = ("pinned, " if entry.pinned else "") + ", ".join(entry.kept_for)
        cells = (str(entry.fallbacks), str(entry.n_images), f"{entry.size / 1e6:.1f}")
        rows.add_row(f"[bold]{escape(entry.id)}[/]", escape(entry.pipeline), outcome, *cells, kept)
    console.print(rows)
    total = sum(entry.size for entry in entries)
    console.print(
        f"\n{len(entries)} recordings, {total / 1e9:.2f} GB, in {folder}", style="dim", soft_wrap=True
    )


@record.command()
def show(name: _Name, folder: _Folder, as_json: _Json = False) -> None:
    """Show all that is known of a recording."""
    from rich.markup import escape

    ring = _ring(folder)
    known = _as_dict(ring, ring.find(name))
    if as_json:
        print_json(known)
        return
    rows = table("", "")
    rows.show_header = False
    for field, value in known.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        rows.add_row(f"[dim]{field}[/]", escape(text))
    console.print(rows)


@record.command()
def prune(
    folder: _Folder,
    gigabytes: Annotated[float | None, typer.Option(min=0, help="Most that all recordings may take.")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Age from which they go.")] = None,
) -> None:
    """Remove the oldest recordings until the rest fits; those that are kept stay."""
    if gigabytes is None and days is None:
        raise typer.BadParameter("say what may stay: --gigabytes, --days, or both")
    removed = _ring(folder).prune(None if gigabytes is None else int(gigabytes * 1e9), days)
    for entry in removed:
        console.print(f"removed {entry.id}, {entry.size / 1e6:.1f} MB", markup=False, soft_wrap=True)
    if not removed:
        console.print("nothing had to go")


@record.command()
def keep(
    name: _Name,
    folder: _Folder,
    release: Annotated[bool, typer.Option("--release", help="Let it go with the others again.")] = False,
) -> None:
    """Keep a recording whatever its age and however full the folder is."""
    entry = _ring(folder).pin(name, pinned=not release)
    console.print(
        f"{entry.id} is {'kept until it is released' if entry.pinned else 'released'}", soft_wrap=True
    )


def _ring(folder: Path) -> RecordingRing:
    from scanside.errors import ConfigError
    from scanside.recording import RecordingRing

    if not folder.is_dir():
        raise ConfigError(
            f"there is no folder {folder}: give the recording folder of the server with --folder"
        )
    return RecordingRing(folder)


def _as_dict(ring: RecordingRing, entry: RecordingEntry) -> dict[str, object]:
    return {**entry.model_dump(mode="json"), "file": str(ring.path(entry))}
