"""``scanside convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanside.cli.console import console, err, progress_bar
from scanside.cli.options import different_files

__all__ = ["convert"]

_ISMRMRD = (".h5", ".hdf5")
_BART = (".cfl", ".hdr")


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="A recorded scan; a file of a public data set, such as fastMRI's; or images of `scanside replay`.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The file to write: .h5 is an ISMRMRD scan, .mrd one of MRD 2, .cfl BART's k-space, .nii images.",
        ),
    ],
    dataset: Annotated[
        str | None, typer.Option(help="The data set; by default the one that the file looks like.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Group of images in HDF5; default: dataset, or the only one.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Series of images; by default the only one.")] = None,
) -> None:
    """Make a scan (ISMRMRD or MRD 2) or BART's k-space of a recorded scan or a file of a public data set, or NIfTI of
    images.

    Lines of padding are left out of a scan, whose header is the file's own where it has one; otherwise pixels count
    as 1 mm. Beside BART's pair of files lies the header, NAME.xml. NIfTI is made of the reconstruction that comes
    with a file, or of the images of `scanside replay`.
    """
    from scanside.datasets import open_scan_file
    from scanside.datasets.nifti_images import is_nifti
    from scanside.datasets.opening import dataset_of
    from scanside.mrd.transfer import MRD2_SUFFIX, copy_scan

    different_files(source, output)
    is_dataset = dataset is not None or dataset_of(source) is not None
    if output.suffix in _BART and source.is_file() and not is_dataset:
        from scanside.datasets.recording_as_bart import recording_as_bart

        output.parent.mkdir(parents=True, exist_ok=True)
        with progress_bar("images") as progress:
            n_images, warnings = recording_as_bart(source, output, group, progress)
        for warning in warnings:
            err.print(f"WARNING {warning}", markup=False, soft_wrap=True)
        console.print(f"{n_images} images: {output}", soft_wrap=True, markup=False)
        return
    if source.suffix == MRD2_SUFFIX or (output.suffix == MRD2_SUFFIX and not is_dataset):
        console.print(f"{copy_scan(source, output)} readouts: {output}", soft_wrap=True, markup=False)
        return
    to_nifti = is_nifti(output)
    if not to_nifti and output.suffix not in (*_ISMRMRD, *_BART, MRD2_SUFFIX):
        raise typer.BadParameter(
            f"{output}: the suffix says what is written: .h5 (ISMRMRD), .mrd (MRD 2), .cfl (BART), .nii or .nii.gz "
            "(NIfTI)",
            param_hint="OUT",
        )
    if to_nifti and source.is_file() and not is_dataset:
        from scanside.datasets.as_nifti import images_as_nifti

        n_images = images_as_nifti(source, output, group, series)
        console.print(f"{n_images} images: {output}", soft_wrap=True, markup=False)
        return
    if group is not None or series is not None:
        raise typer.BadParameter(
            "--group and --series choose among images that become NIfTI, --group also among scans that become BART's"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with open_scan_file(source, dataset) as file, progress_bar("images") as progress:
        if to_nifti:
            from scanside.datasets.as_nifti import reference_as_nifti

            reference_as_nifti(file, output, progress)
        elif output.suffix in _BART:
            from scanside.datasets.as_bart import write_bart

            write_bart(file, output, progress)
        else:
            from scanside.datasets.as_ismrmrd import write_ismrmrd

            write_ismrmrd(file, output, progress)
        told = f"{len(file.places)} images of {file.FORMAT}, subject {file.subject}"
    console.print(f"{told}: {output}", soft_wrap=True, markup=False)
