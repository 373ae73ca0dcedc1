"""``scanside inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanside.cli.console import coloured_level, console, print_json, table

if TYPE_CHECKING:
    from scanside.inspection import EncodingSurvey, Inspection

__all__ = ["inspect"]

_LEGEND = "█ image  [cyan]▓[/] image and calibration  [cyan]▒[/] calibration  · left out  ▼ centre"


def inspect(
    file: Annotated[Path, typer.Argument(help="An ISMRMRD HDF5 file or an ISMRMRD stream.", metavar="FILE")],
    group: Annotated[str | None, typer.Option(help="HDF5 group; default: dataset, or the only one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the sampling to this PNG file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
) -> None:
    """Tell what is in a raw file: encodings, counters, sampling, noise, geometry, and what looks wrong."""
    from scanside.inspection import inspect_file

    found = inspect_file(file, group)
    if as_json:
        print_json(found.to_dict())
    else:
        _print(found)
    if png is not None:
        from scanside.report.figures import sampling_figure, save

        save(sampling_figure(found.encodings), png)
    if report is not None:
        from scanside.report import inspection_report

        inspection_report(found, report)


def _print(found: Inspection) -> None:
    from rich.markup import escape

    where = f", group '{found.group}'" if found.group else ""
    console.print(f"[bold]{escape(str(found.path))}[/]  {found.format}{escape(where)}\n", soft_wrap=True)
    rows = table("", "")
    rows.show_header = False
    for name, text in [*found.facts(), *_contents(found)]:
        rows.add_row(f"[dim]{escape(name)}[/]", escape(text))
    console.print(rows)
    for space in found.encodings:
        _print_encoding(space, many=len(found.encodings) > 1)
    console.print()
    if not found.findings:
        console.print("[green]Nothing looks wrong.[/]")
    for finding in found.findings:
        console.print(f"{coloured_level(finding.level)}: {escape(finding.text)}", soft_wrap=True)


def _contents(found: Inspection) -> list[tuple[str, str]]:
    survey = found.survey
    rows = []
    if found.n_readouts:
        rows.append(("readouts", str(found.n_readouts)))
    if survey.noise is not None:
        noise = survey.noise
        rows.append(
            (
                "noise readouts",
                f"{noise.n_readouts}, {noise.n_samples} samples a coil, dwell time {noise.dwell_us:g} µs",
            )
        )
    for number, n in sorted(survey.waveforms.items()):
        name = found.header.waveform_names.get(number) if found.header else None
        rows.append((f"waveform {number}", f"{n} pieces" + (f" ({name})" if name else "")))
    for series in survey.images:
        matrix = " × ".join(map(str, series.shape))
        rows.append(
            (
                f"image series {series.series}",
                f"{series.n_images} of {matrix} (channel, z, y, x), {series.dtype}",
            )
        )
    rows += [(name, f"{n} messages") for name, n in survey.others.items()]
    if survey.flags:
        rows.append(("flags", ", ".join(f"{name} {n}" for name, n in survey.flags.items())))
    return rows


def _print_encoding(space: EncodingSurvey, *, many: bool) -> None:
    from rich.markup import escape

    from scanside.inspection import describe_orientation, direction_letters, statements

    console.print(f"\n[bold]Encoding space {space.index}[/]" if many else "\n[bold]Encoding[/]")
    rows = table("", "")
    rows.show_header = False
    if space.encoding is not None:
        for name, matrix in (("encoded", space.encoding.encoded), ("recon", space.encoding.recon)):
            size = " × ".join(map(str, matrix.matrix))
            fov = " × ".join(f"{n:g}" for n in matrix.field_of_view_mm)
            voxel = " × ".join(f"{n:.4g}" for n in matrix.voxel_mm)
            rows.add_row(f"[dim]{name}[/]", f"{size}, {fov} mm, voxel {voxel} mm")
        rows.add_row("[dim]trajectory[/]", escape(space.encoding.trajectory))
    for shape, n in space.shapes.items():
        rows.add_row(
            "[dim]readouts[/]",
            f"{n} of {shape.n_coils} coils × {shape.n_samples} samples, echo at sample {shape.center_sample}",
        )
    rows.add_row("[dim]dwell time[/]", ", ".join(f"{dwell:.4g} µs" for dwell in space.dwell_us))
    for text in statements(space):
        rows.add_row("", escape(text))
    for number, geometry in list(space.geometries.items())[:1]:
        read, phase, slice_ = (direction_letters(direction) for direction in geometry.directions.T)
        hand = "left" if geometry.is_left_handed else "right"
        position = ", ".join(f"{x:.1f}" for x in geometry.position)
        n = len(space.geometries)
        rows.add_row(
            "[dim]orientation[/]",
            f"{describe_orientation(geometry)}; read {read}, phase {phase}, slice {slice_}; {hand}-handed",
        )
        rows.add_row(
            "[dim]position[/]", f"slice {number} at ({position}) mm LPS" + (f"; {n} slices" if n > 1 else "")
        )
    console.print(rows)
    _print_counters(space)
    if space.sampling is not None:
        console.print(f"\n[bold]Sampling[/]  {escape(space.sampling.describe())}", soft_wrap=True)
        for line in space.sampling.text():
            console.print(line.replace("▓", "[cyan]▓[/]").replace("▒", "[cyan]▒[/]"), soft_wrap=True)
        console.print(
            "█ image  [cyan]▓[/] image and calibration  [cyan]▒[/] calibration  · left out  ▼ centre",
            style="dim",
        )


def _print_counters(space: EncodingSurvey) -> None:
    """The counters that count something."""
    counters = table(
        "counter", "found", "values", "limits", "centre", right=("found", "values", "limits", "centre")
    )
    for counter in space.counters:
        if counter.maximum == 0 and (counter.limit is None or counter.limit.maximum == 0):
            continue
        limit = counter.limit
        style = "[bold red]" if counter.is_outside else "[default]"
        counters.add_row(
            counter.name,
            f"{style}{counter.minimum} – {counter.maximum}[/]",
            str(counter.n_values),
            "not given" if limit is None else f"{limit.minimum} – {limit.maximum}",
            "" if limit is None else str(limit.center),
        )
    if counters.row_count:
        console.print()
        console.print(counters)
