"""``scanside mask``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanside.cli.console import console, table
from scanside.cli.options import different_files, settings_from

if TYPE_CHECKING:
    from scanside.sampling import Limits, Mask, Space

__all__ = ["mask"]

_WRITTEN = (".npy", ".h5", ".png")
_FRAMES = 12


def mask(
    pattern: Annotated[str | None, typer.Argument(help="A pattern by name; none lists them.")] = None,
    matrix: Annotated[
        str, typer.Option(help="Phase encodings: lines (256), or points of a plane (256x180).")
    ] = "256",
    acceleration: Annotated[
        float, typer.Option("--acceleration", "-R", help="Factor of undersampling.")
    ] = 4.0,
    acs: Annotated[
        str, typer.Option(help="Fully sampled centre: 24, or 24x16 of a plane; 0 for none.")
    ] = "24",
    frames: Annotated[
        int | None, typer.Option(min=1, help="Draw a series of so many frames, kt-* without it 12.")
    ] = None,
    partial_fourier: Annotated[
        str, typer.Option(help="Share that is acquired along each axis: 0.75, or 0.75x0.875.")
    ] = "1",
    late: Annotated[
        bool, typer.Option("--late", help="Partial Fourier leaves out the last lines, not the first.")
    ] = False,
    elliptical: Annotated[
        bool, typer.Option("--elliptical", help="Leave out the corners of a plane.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same mask everywhere.")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A further number of the pattern, as density_power=3."
        ),
    ] = None,
    output: Annotated[
        list[Path] | None,
        typer.Option("--output", "-o", help="mask.npy, mask.h5, or a picture mask.png; may be repeated."),
    ] = None,
) -> None:
    """Draw a sampling mask: for `replay --undersample`, for other programs, or to look at it.

    Files hold 1 where k-space is acquired, its centre at n // 2, for lines (k1), for points (k1, k2), for a series
    with the frames in front. The picture has the mask and the image of a point.
    """
    if pattern is None:
        _list()
        return
    from scanside.sampling import Limits

    written = output or []
    different_files(*written)
    for path in written:
        if path.suffix not in _WRITTEN:
            raise typer.BadParameter(f"{path}: a mask is written to {', '.join(_WRITTEN)}")
    sizes = tuple(map(int, _numbers(matrix, "--matrix", whole=True)))
    shares = _numbers(partial_fourier, "--partial-fourier")
    if len(sizes) not in (1, 2) or len(shares) > len(sizes):
        raise typer.BadParameter("--matrix has one number or two, and --partial-fourier no more of them")
    limits = Limits(
        (shares[0], shares[1] if len(shares) > 1 else 1.0), "late" if late else "early", elliptical
    )
    centre = tuple(map(int, _numbers(acs, "--acs", whole=True)))
    if len(centre) == 1:
        centre *= len(sizes)
    options = {name: _numbers(value, "--set")[0] for name, value in settings_from(changes or ()).items()}
    drawn, space = _drawn(pattern, sizes, centre, limits, acceleration, frames, seed, options)
    facts = {"pattern": pattern, "acceleration": acceleration, "acs": list(centre), "seed": seed, **options}
    for path in written:
        _write(path, drawn, space, facts)
    _tell(drawn, space, written)


def _list() -> None:
    from scanside.sampling import LINES, PLANES, SERIES

    rows = table("pattern", "of", "R counts the centre", "--set")
    for noun, patterns in (("lines", LINES), ("points", PLANES), ("a series", SERIES)):
        for name, pattern in patterns.items():
            counts = "yes" if pattern.counts_acs else "no"
            whole = ", R whole" if pattern.whole else ""
            rows.add_row(f"[bold]{name}[/]", noun, counts + whole, ", ".join(pattern.options))
    console.print(rows)
    console.print(
        "\nDraw one: scanside mask NAME --matrix 256 (lines) or 256x180 (points), with --frames a series",
        style="dim",
    )


def _numbers(text: str, option: str, *, whole: bool = False) -> tuple[float, ...]:
    try:
        return tuple(int(part) if whole else float(part) for part in text.split("x"))
    except ValueError:
        kind = "whole numbers" if whole else "numbers"
        raise typer.BadParameter(f"{option} has {kind} with an x between them, got {text!r}") from None


def _drawn(
    pattern: str,
    sizes: tuple[int, ...],
    acs: tuple[int, ...],
    limits: Limits,
    acceleration: float,
    frames: int | None,
    seed: int,
    options: dict[str, float],
) -> tuple[Mask, Space]:
    from scanside.sampling import LINES, PLANES, SERIES, Space, generator, line_mask, plane_mask, series_mask

    space = Space.of(limits.region(sizes), acs)
    rng = generator(seed)
    if frames is not None or pattern in SERIES.keys() - LINES.keys() - PLANES.keys():
        n_frames = frames or _FRAMES
        return series_mask(pattern, space, n_frames, acceleration=acceleration, rng=rng, **options), space
    draw = line_mask if len(sizes) == 1 else plane_mask
    return draw(pattern, space, acceleration=acceleration, rng=rng, **options), space


def _write(path: Path, drawn: Mask, space: Space, facts: dict[str, Any]) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, drawn.astype(np.uint8))
    elif path.suffix == ".h5":
        import h5py

        with h5py.File(path, "w") as file:
            file["mask"] = drawn.astype(np.uint8)
            file["mask"].attrs.update(facts)
    else:
        from scanside.report.figures import mask_figure, save

        save(mask_figure(drawn, space), path)


def _tell(drawn: Mask, space: Space, written: list[Path]) -> None:
    from scanside.sampling import acceleration_of, sidelobe

    found = acceleration_of(drawn, space)
    frame = drawn if drawn.ndim == len(space.shape) else drawn[0]
    rows = table("", "")
    rows.show_header = False
    rows.add_row("acquired", f"{found.n_acquired} of {found.n_region}")
    rows.add_row("R", f"{found.with_acs:.2f}")
    rows.add_row("R beside the fully sampled centre", f"{found.without_acs:.2f}")
    if found.n_region < found.n_matrix:
        rows.add_row("R of the whole matrix", f"{found.of_matrix:.2f}")
    rows.add_row("largest sidelobe", f"{sidelobe(frame):.2f}")
    for path in written:
        rows.add_row("written", f"{path}")
    console.print(rows)
