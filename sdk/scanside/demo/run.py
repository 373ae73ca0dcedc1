"""The demonstration: all scans, one report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from scanside.demo.checked import NOISY, run_checked
from scanside.demo.compare import compare_slices
from scanside.demo.engines import Wanted, built_beside
from scanside.demo.film import LEARNED_FILM, film_scan, run_film
from scanside.demo.learned import LEARNED, run_learned
from scanside.demo.learned import SCAN as LEARNED_SCAN
from scanside.demo.result import CLASSICAL, ZERO_FILLED, DemoResult
from scanside.demo.showcase import Shown, require_showcase, run_showcase
from scanside.demo.steps import same_pixels, write_scan
from scanside.demo.stream import PIPELINE
from scanside.replay import replay
from scanside.simulate import ScanConfig, preset, simulate

__all__ = ["run_demo"]

_READ_ME = """checked          a noisy scan: raw data, truth, and images that check themselves
film             a third scan, a beating heart in real time: raw data, and the images of every method
film.gif         the films of every method and the truth, side by side
images.h5        the images that the Gadgetron node gave back (ISMRMRD HDF5)
learned          a second scan: its raw data, truth, and the images of every method, the learned ones from the node
report.html      the report: open it in a browser
*.png            its pictures
scan.h5          the simulated raw data: scanside inspect scan.h5
truth.npz        true images, coil maps and affines
zero_filled.h5   images of the same data without parallel imaging
"""


def run_demo(
    folder: Path,
    *,
    config: ScanConfig | None = None,
    learned: ScanConfig = LEARNED_SCAN,
    noisy: ScanConfig = NOISY,
    film: ScanConfig | None = None,
    shown: Shown | None = None,
    device: str = "auto",
    on_step: Callable[[str], None] = lambda step: None,  # noqa: ARG005
) -> DemoResult:
    """Simulate, reconstruct, compare, and write a report.

    Args:
        folder: made if need be; files of an earlier demonstration are replaced.
        config: a 2-D scan of one contrast with calibration lines, for the classical pipeline; by default the preset
            ``brain-oblique``.
        learned: the same for the learned pipelines; random sampling is welcome.
        noisy: the same, of one slice, for the self-check.
        film: one slice in real time, a repetition each frame; by default the preset ``cine``, shortened.
        shown: further pipelines, each on a scan of its own; None for none.
        device: see `scanside.Context`.
        on_step: called with what is about to happen.

    Raises:
        ScansideError: a part of the chain failed, or an image lies elsewhere than its truth.
    """
    from scanside.demo.page import write_page
    from scanside.report import Observations

    if shown is not None:
        require_showcase()
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / "scan.h5"
    film = film or film_scan()
    engines = [*(Wanted.of(name, learned) for name in LEARNED), Wanted.of(LEARNED_FILM, film)]
    with built_beside(engines):
        on_step("simulating the scan")
        scan = simulate(config or preset("brain-oblique"))
        write_scan(scan, recording)
        scan.truth.save(folder / "truth.npz")
        on_step("reconstructing it in a Gadgetron node")
        node = replay(recording, CLASSICAL, folder / "images.h5", via="gadgetron", device=device)
        on_step("reconstructing it in this process")
        observed = Observations()
        direct = replay(recording, CLASSICAL, device=device, observe=observed)
        zero_filled = replay(recording, ZERO_FILLED, folder / "zero_filled.h5", device=device)
        result = DemoResult(
            folder,
            slices=compare_slices({ZERO_FILLED: zero_filled.images, CLASSICAL: node.images}, scan.truth),
            same_pixels=same_pixels(node.images, direct.images),
            node=node,
            direct=direct,
            learned=run_learned(folder / "learned", config=learned, device=device, on_step=on_step),
            checked=run_checked(folder / "checked", config=noisy, device=device, on_step=on_step),
            film=run_film(folder / "film", config=film, device=device, on_step=on_step),
        )
    if shown is not None:
        showcase = run_showcase(folder, shown=shown, device=device, on_step=on_step)
        result = replace(result, showcase=showcase)
    on_step("writing the report")
    write_page(result, observed, recording)
    (folder / "README.txt").write_text(_read_me(shown), encoding="utf-8")
    return result


def _read_me(shown: Shown | None) -> str:
    """What lies in the folder, a line each."""
    names = [] if shown is None else [*(one.name for one in shown.exhibits), PIPELINE]
    further = "".join(f"{name:16} a scan for pipeline {name}: raw data, truth and images\n" for name in names)
    film = f"{PIPELINE + '.gif':16} its images and the truth, side by side\n" if names else ""
    return _READ_ME + further + film
