"""``scanside demo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanside.cli.console import console, err, table

if TYPE_CHECKING:
    from rich.table import Table

    from scanside.demo import SliceResult
    from scanside.demo.result import FilmResult, Showcase

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for everything that is made.")
    ] = Path("out/demo"),
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Show the pipelines for spokes, spirals and EPI, too, and images while a scan runs."
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Simulate accelerated scans of head and heart, reconstruct them in a Gadgetron node, learned and classically."""
    from rich.markup import escape

    from scanside.demo import run_demo
    from scanside.demo.showcase import Shown
    from scanside.demo.stream import PIPELINE

    shown = Shown() if everything else None
    with err.status("…") as status:
        result = run_demo(
            output,
            shown=shown,
            device=device,
            on_step=lambda step: status.update(f"{escape(step)} …"),
        )
    console.print(_figures("Parallel imaging, compared with truth (means)", result.slices))
    console.print()
    console.print(_figures("Learned reconstruction, compared with truth (means)", result.learned.slices))
    console.print()
    console.print(_figures("A noisy scan: images that check themselves", result.checked.slices))
    console.print()
    console.print(_film_figures("Film of a beating heart, compared with truth (means)", result.film))
    console.print()
    if result.showcase is not None:
        _show(result.showcase)
    for method in (*result.learned.methods, *result.checked.methods, result.film.method):
        chosen = method.choice and method.choice.chosen
        if chosen:
            console.print(f"{method.pipeline} ran on engine {chosen.backend} {chosen.precision}.")
        for text in filter(None, (method.missing, *method.notes)):
            console.print(f"[yellow]{method.pipeline}:[/] {escape(text)}", soft_wrap=True)
    same = "the same pixels as" if result.same_pixels else "[bold red]other pixels than[/]"
    console.print(f"The Gadgetron node gave {same} the classical pipeline in this process.")
    further = [] if shown is None else [*(one.name for one in shown.exhibits), PIPELINE]
    made = table("", "")
    made.show_header = False
    for name in (
        "report.html",
        "images.h5",
        "scan.h5",
        "truth.npz",
        "learned",
        "checked",
        "film",
        "film.gif",
        *further,
    ):
        made.add_row(f"[dim]{name}[/]", str((output / name).resolve()))
    console.print()
    console.print(made)
    console.print("\nResearch use only.", style="dim")


def _figures(title: str, slices: Sequence[SliceResult]) -> Table:
    from scanside.demo.compare import mean
    from scanside.demo.result import TITLES

    columns = ("PSNR", "SSIM", "PSNR in the object", "SSIM in the object")
    rows = table("method", *columns, title=title, right=columns)
    for name in slices[0].images:
        psnr, ssim, psnr_inside, ssim_inside = mean(slices, name)
        inside = (f"{psnr_inside:.1f} dB", f"{ssim_inside:.3f}")
        rows.add_row(TITLES.get(name, name), f"{psnr:.1f} dB", f"{ssim:.3f}", *inside)
    return rows


def _show(showcase: Showcase) -> None:
    """Further pipelines: their figures, and how soon images came."""
    from scanside.demo.compare import mean
    from scanside.demo.showcase_section import in_words
    from scanside.demo.stream import PIPELINE

    told = {key: title for one in showcase.exhibits for key, title in one.exhibit.told.items()}
    columns = ("NRMSE in the object", "PSNR in the object", *told.values())
    rows = table(
        "scan for", "method", *columns, title="Further pipelines, compared with truth (means)", right=columns
    )
    for one in showcase.exhibits:
        for name, nrmse in one.nrmse.items():
            said = [one.told[name].get(key) for key in told]
            rows.add_row(
                one.exhibit.name,
                name,
                f"{100 * nrmse:.1f} %",
                f"{mean(one.slices, name).psnr_inside_db:.1f} dB",
                *("" if value is None else f"{100 * value:.2f}" for value in said),
            )
    console.print(rows)
    console.print()
    console.print(_film_figures("Spokes in real time, compared with truth (means)", showcase.stream.film))
    console.print(f"{PIPELINE}: {in_words(showcase.stream)}", soft_wrap=True)
    others = [one.exhibit.name for one in showcase.exhibits if not one.same_pixels]
    if others:
        console.print(
            f"[bold red]Other pixels[/] in the Gadgetron node than in this process: {', '.join(others)}."
        )
    console.print()


def _film_figures(title: str, film: FilmResult) -> Table:
    from scanside.demo.result import TITLES

    columns = ("PSNR", "SSIM", "PSNR where it moves")
    rows = table("method", *columns, title=title, right=columns)
    for name, (psnr, ssim, moving) in film.quality.items():
        rows.add_row(TITLES.get(name, name), f"{psnr:.1f} dB", f"{ssim:.3f}", f"{moving:.1f} dB")
    return rows
