"""``scanside demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanside.cli.console import console, err, table

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for everything that is made.")
    ] = Path("out/demo"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Simulate an oblique accelerated brain scan, reconstruct it in a Gadgetron node, write a report."""
    from scanside.demo import PIPELINE, run_demo

    with err.status("…") as status:
        result = run_demo(output, device=device, on_step=lambda step: status.update(f"{step} …"))
    columns = ("slice", "PSNR zero-filled", f"PSNR {PIPELINE}", "SSIM zero-filled", f"SSIM {PIPELINE}")
    rows = table(*columns, title="Compared with truth", right=columns[1:])
    for one in result.slices:
        psnr = (f"{value:.1f} dB" for value in one.psnr_db)
        rows.add_row(str(one.slice), *psnr, *(f"{value:.3f}" for value in one.ssim))
    console.print(rows)
    same = "the same pixels as" if result.same_pixels else "[bold red]other pixels than[/]"
    console.print(f"\nThe Gadgetron node gave {same} the pipeline in this process.")
    made = table("", "")
    made.show_header = False
    for name in ("report.html", "images.h5", "scan.h5", "truth.npz"):
        made.add_row(f"[dim]{name.partition('.')[0]}[/]", str((output / name).resolve()))
    console.print()
    console.print(made)
    console.print("\nResearch use only.", style="dim")
