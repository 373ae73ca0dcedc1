"""``scanside data``: public data sets of measured k-space and of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanside.cli.console import coloured_level, console, print_json, progress_bar, table

if TYPE_CHECKING:
    from scanside.datasets.checking import FolderCheck

__all__ = ["data"]

data = typer.Typer(
    help="Look into public data sets, and write small files that are built like theirs.", no_args_is_help=True
)

_MOST_SHAPES = 6


@data.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder, searched with all below it.")],
    dataset: Annotated[
        str | None, typer.Option(help="Data set that all files are of; by default each file's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Count files, subjects, images and shapes, and tell what is wrong with any file.

    The first image of every file is read. The exit status is 1 where a file cannot be used.
    """
    from scanside.datasets.checking import check_folder

    with progress_bar("files", hidden=as_json) as progress:
        found = check_folder(folder, dataset, progress)
    if as_json:
        print_json(_as_dict(found))
    else:
        _print(found)
    if found.broken:
        raise typer.Exit(1)


@data.command()
def example(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="Its name, such as fastmri.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
) -> None:
    """Write small files that are built like those of a data set, of simulated objects.

    They are for trying commands and configurations before the data are there, and for nothing else.
    """
    from scanside.datasets.examples import write_example

    paths = write_example(dataset, folder)
    for path in paths:
        console.print(str(path), soft_wrap=True, markup=False)


def _as_dict(found: FolderCheck) -> dict[str, Any]:
    return {
        "folder": str(found.folder),
        "files": [
            {
                "path": str(one.path),
                "dataset": one.dataset,
                "subject": one.subject,
                "n_images": one.n_images,
                "shape": list(one.shape),
                "facts": dict(one.facts),
                "problem": one.problem,
            }
            for one in found.files
        ],
    }


def _print(found: FolderCheck) -> None:
    from rich.markup import escape

    shown = table(
        "data set",
        "files",
        "subjects",
        "images",
        "(coil, k1, k0) or (row, column): files",
        right=("files", "subjects", "images"),
    )
    for name, n_files in found.datasets.most_common():
        shapes = found.shapes(name).most_common()
        told = [f"{' × '.join(map(str, shape))}: {n}" for shape, n in shapes[:_MOST_SHAPES]]
        if len(shapes) > _MOST_SHAPES:
            told.append(f"and {len(shapes) - _MOST_SHAPES} more shapes")
        counts = (n_files, len(found.subjects(name)), found.n_images(name))
        shown.add_row(name, *map(str, counts), "\n".join(told))
    console.print(shown)
    for one in found.broken:
        text = f"{one.path}: {one.problem}"
        console.print(f"{coloured_level('error')}: {escape(text)}", soft_wrap=True)
    told_broken = f"{len(found.broken)} cannot be used" if found.broken else "all can be used"
    console.print(f"{len(found.files)} files, {told_broken}", soft_wrap=True)
