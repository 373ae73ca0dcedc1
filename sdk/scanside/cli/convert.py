"""``scanside convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanside.cli.console import console, progress_bar
from scanside.cli.options import different_files

__all__ = ["convert"]


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A file of a public data set, such as fastMRI's.")
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="ISMRMRD HDF5 file to write, or MRD 2 stream (.mrd).")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="The data set; by default the one that the file looks like.")
    ] = None,
) -> None:
    """Make an ISMRMRD scan of a file of a public data set, or of an MRD 2 stream (.mrd), and the other way round.

    Lines of padding are left out. The header is the file's own where it has one; otherwise pixels count as 1 mm.
    """
    from scanside.datasets import open_scan_file
    from scanside.datasets.as_ismrmrd import write_ismrmrd
    from scanside.mrd.transfer import MRD2_SUFFIX, copy_scan

    different_files(source, output)
    if MRD2_SUFFIX in (source.suffix, output.suffix):
        console.print(f"{copy_scan(source, output)} readouts: {output}", soft_wrap=True, markup=False)
        return
    with open_scan_file(source, dataset) as file, progress_bar("images") as progress:
        write_ismrmrd(file, output, progress)
        told = f"{len(file.places)} images of {file.FORMAT}, subject {file.subject}"
    console.print(f"{told}: {output}", soft_wrap=True, markup=False)
