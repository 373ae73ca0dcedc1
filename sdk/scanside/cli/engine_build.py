"""``scanside engines build``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scanside.cli.console import console, err, table
from scanside.cli.plan_build import build_plans
from scanside.errors import CacheUnusable, EngineError, MissingExtra

if TYPE_CHECKING:
    from scanside.engines.bundle import Bundle
    from scanside.engines.choice import Candidate, Choice

__all__ = ["build", "need_training"]

_COLOURS = {
    "chosen": "green",
    "slower": "green",
    "coarser": "green",
    "refused": "red",
    "failed": "red",
    "absent": "dim",
}
_OF_A_RUN = "bundles made from a run"
_LEARNED = "unrolled"
_MOST_COILS = 8  # more are compressed
_PLANS_BACKEND = "tensorrt_rtx"


def build(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|BUNDLE",
            show_default=False,
            help="Folder of a finished training run, or a bundle; none with --module.",
        ),
    ] = None,
    *,
    module: Annotated[
        str | None,
        typer.Option(
            metavar="PACKAGE.MODULE:NAME",
            help="Make the bundle of a torch.nn.Module that was trained elsewhere, or of a .pt2 file, with --ports.",
        ),
    ] = None,
    ports: Annotated[
        Path | None,
        typer.Option(metavar="YAML", help="What the module takes, and what it was trained on."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The bundle's folder, for a run; the folder for plans, with --gpus."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the bundle; its folder's by default.", rich_help_panel=_OF_A_RUN)
    ] = None,
    version: Annotated[str, typer.Option(help="Of the bundle.", rich_help_panel=_OF_A_RUN)] = "1.0.0",
    description: Annotated[
        str, typer.Option(help="One sentence for people.", rich_help_panel=_OF_A_RUN)
    ] = "",
    anatomy: Annotated[
        list[str] | None,
        typer.Option(
            help="What the training data show; may be given several times. The brain by default.",
            rich_help_panel=_OF_A_RUN,
        ),
    ] = None,
    lowering: Annotated[
        Literal["fft", "pmatrix", "dft_matmul"],
        typer.Option(
            help="How data consistency is computed, in unrolled networks.", rich_help_panel=_OF_A_RUN
        ),
    ] = "pmatrix",
    weights: Annotated[
        Literal["float32", "float16"],
        typer.Option(help="Type in which weights are kept.", rich_help_panel=_OF_A_RUN),
    ] = "float32",
    size_limit_mb: Annotated[
        float | None,
        typer.Option("--size-limit-mb", help="Refuse larger bundles.", rich_help_panel=_OF_A_RUN),
    ] = None,
    licence: Annotated[
        Literal["clean", "research"] | None,
        typer.Option(
            help="clean refuses weights that must not be given away; research takes also those whose ancestry is not "
            "known.",
            rich_help_panel=_OF_A_RUN,
        ),
    ] = None,
    perturbation: Annotated[
        Path | None,
        typer.Option(
            metavar="JSON",
            help="Put what became of small structures into the data sheet: perturbation.json of 'scanside evaluate'.",
            rich_help_panel=_OF_A_RUN,
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a bundle, or a plan, that is there.")
    ] = False,
    buckets: Annotated[
        list[str] | None,
        typer.Option(
            "--bucket", metavar="K1xK0", help="Size to build engines for; may be given several times."
        ),
    ] = None,
    recording: Annotated[
        Path | None,
        typer.Option(
            "--for",
            metavar="SCAN",
            help="Build the engines that serve the images of a recording: sizes and coils from its header.",
        ),
    ] = None,
    coils: Annotated[
        int | None,
        typer.Option(help="Coils of the engines; by default the most, up to 8, that the network takes."),
    ] = None,
    backends: Annotated[
        list[str] | None,
        typer.Option("--backend", help="Backend to build for; may be given several times. All by default."),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="8.6,8.9,…",
            help="Compute capabilities of GPUs: build plans of TensorRT-RTX for them, with --backend tensorrt_rtx, "
            "on any machine.",
        ),
    ] = None,
) -> None:
    """Make a bundle from a training run, or from a network trained elsewhere, then build its engines and check them.

    Given a bundle, only its engines are built. None is built while a scan waits: images that find none are made by
    the network as PyTorch runs it, which takes longer. An image goes to the smallest engine that holds it.

    Plans are built on any machine for GPUs elsewhere, which need not be here: --backend tensorrt_rtx --output FOLDER,
    with --gpus for the kinds of GPUs. Install them where they are to run: scanside engines install FOLDER/PLAN.
    """
    from scanside.engines.bundle import Bundle, replace_manifest
    from scanside.engines.catalog import find_bundle
    from scanside.engines.manifest import MANIFEST_FILE

    sizes = [_size(bucket) for bucket in buckets or ()]
    if recording is not None and sizes:
        raise typer.BadParameter("the sizes come from --bucket or from --for, not from both")
    for_plans = gpus is not None or (output is not None and backends == [_PLANS_BACKEND])
    if for_plans and (output is None or (backends or [_PLANS_BACKEND]) != [_PLANS_BACKEND]):
        raise typer.BadParameter(f"plans are built with --backend {_PLANS_BACKEND} --output FOLDER")
    if (source is None) != (module is not None and ports is not None):
        raise typer.BadParameter(
            "give a run or a bundle, or --module and --ports of a network trained elsewhere"
        )
    from_run = source is None or (Path(source).is_dir() and not (Path(source) / MANIFEST_FILE).exists())
    if from_run:
        what = f"{source} is a training run" if source else f"--module {module} is no bundle yet"
        if for_plans:
            raise typer.BadParameter(f"{what}: make its bundle first, then plans of that")
        if output is None:
            raise typer.BadParameter(f"{what}: say with --output where its bundle goes")
        if recording is not None:
            raise typer.BadParameter(f"--for is for bundles, and {what}: name its sizes")
        need_training()
        from scanside_deploy.build import BuildOptions, build_bundle
        from scanside_deploy.own import build_own, read_module, read_ports

        options = BuildOptions(
            name=name or output.name,
            version=version,
            description=description,
            anatomy=tuple(anatomy or BuildOptions.anatomy),
            lowering=lowering,
            buckets=tuple(sizes),
            weights=weights,
            size_limit=None if size_limit_mb is None else int(size_limit_mb * 1e6),
            licence=licence,
            perturbation=perturbation,
        )
        if perturbation is not None and source is None:
            raise typer.BadParameter(f"--perturbation is for the data sheet of a training run, and {what}")
        if source is not None:
            build_bundle(Path(source), output, options, replace=replace)
        else:
            assert module is not None
            assert ports is not None
            build_own(read_module(module), read_ports(ports), output, options, replace=replace)
        folder = output
    else:
        assert source is not None
        if perturbation is not None:
            raise typer.BadParameter(f"--perturbation is for training runs, and {source} is none")
        if output is not None and not for_plans:
            raise typer.BadParameter(f"--output is for training runs, and {source} is none")
        folder = Path(source) if Path(source).is_dir() else find_bundle(source)
    bundle = Bundle.open(folder)
    sizes = [_engine_size(bundle, size) for size in sizes]
    if recording is not None:
        sizes, found = _serving(bundle, recording)
        coils = coils or found
    if for_plans:
        assert output is not None
        build_plans(
            bundle, sizes or list(bundle.manifest.shapes.buckets), coils, gpus, output, replace=replace
        )
        return
    candidates = _engines(bundle.folder, sizes or list(bundle.manifest.shapes.buckets), coils, backends)
    if from_run:
        reports = tuple(one.entry.report for one in candidates if one.entry is not None)
        replace_manifest(folder, acceptance=reports)
        console.print(f"\nThe bundle is in {folder}", markup=False, soft_wrap=True)
    _check_kept(candidates)


def _check_kept(candidates: Sequence[Candidate]) -> None:
    """Engines that end with this process are of no use to the next.

    Raises:
        CacheUnusable: an engine is not in the cache.
    """
    from scanside.engines.cache import engine_cache_folder

    kept = engine_cache_folder()
    if any(one.entry is not None and not one.entry.folder.is_relative_to(kept) for one in candidates):
        raise CacheUnusable(
            f"the engines were built and could not be kept in {kept}: make room there or give the right to write it, "
            "or name another folder in SCANSIDE_ENGINE_CACHE, and build them again"
        )


def _serving(bundle: Bundle, recording: Path) -> tuple[list[tuple[int, int]], int | None]:
    """The sizes of the engines that serve the images of a recording, and for how many coils.

    Raises:
        ShapeError: there is none for any of its images.
        ScansideError: the recording cannot be read.
    """
    from scanside.engines.shapes import fit
    from scanside.errors import ShapeError
    from scanside.mrd.files import open_recording
    from scanside.mrd.header import MrdHeader
    from scanside.pipeline import Pipeline
    from scanside.stage import Expected
    from scanside.stages.engine import RunEngine

    with open_recording(recording) as opened:
        header = MrdHeader.parse(opened.header_xml)
    shapes = bundle.manifest.shapes
    sizes: list[tuple[int, int]] = []
    coils: int | None = None
    against = []
    for expected in Expected.of(header):
        # What comes before the network is the same in all pipelines that ship with one.
        for stage in takewhile(lambda one: not isinstance(one, RunEngine), Pipeline.load(_LEARNED).stages):
            expected = stage.expect(expected)
        try:
            bucket = fit(bundle.manifest.lowering, shapes, *expected.size).bucket
        except ShapeError as error:
            against.append(str(error))
            continue
        sizes += [] if bucket in sizes else [bucket]
        coils = shapes.coils_for(expected.n_coils or _MOST_COILS)
    if not sizes:
        raise ShapeError(f"{recording} has no images that bundle '{bundle.name}' takes: {'; '.join(against)}")
    for text in against:
        err.print(f"left out: {text}", markup=False, soft_wrap=True)
    return sizes, coils


def _engines(
    folder: Path, sizes: Sequence[tuple[int, int]], coils: int | None, backends: Sequence[str] | None
) -> list[Candidate]:
    """Build and judge the engines of a bundle; all that were thought of."""
    from scanside.engines.backends import NAMES
    from scanside.engines.build import BundleSource, Workshop
    from scanside.engines.bundle import Bundle
    from scanside.engines.cache import EngineCache
    from scanside.engines.choice import rank
    from scanside.engines.times import Runners, Timekeeper

    bundle, cache = Bundle.open(folder), EngineCache()
    shapes = bundle.manifest.shapes
    if coils is None:
        coils = shapes.coils_for(_MOST_COILS)
    found = []
    for size in sizes:
        with err.status("") as status:
            engine_source = BundleSource(bundle, size, coils)
            candidates = Workshop(engine_source, cache, status.update).candidates(backends or NAMES)
            keeper = Timekeeper(Runners(engine_source), cache, status.update)
            choice = rank(candidates, keeper.times(candidates, measure=True))
        _show(f"{size[0]}×{size[1]}" + (f", {coils} coils" if coils else ""), choice)
        if choice.chosen is None:
            elsewhere = "; plans for GPUs elsewhere are built with --gpus and --output"
            raise EngineError(
                f"no engine of bundle '{bundle.name}' was accepted for {size[0]}×{size[1]}; see above"
                f"{elsewhere if backends == [_PLANS_BACKEND] else ''}"
            )
        found += candidates
    return found


def _show(title: str, choice: Choice) -> None:
    from rich.markup import escape

    rows = table("backend", "precision", "verdict", "why", title=title)
    for one in choice.verdicts:
        colour = _COLOURS[one.status]
        rows.add_row(one.backend, one.precision, f"[{colour}]{one.status}[/]", escape(one.why))
    console.print(rows)


def _engine_size(bundle: Bundle, size: tuple[int, int]) -> tuple[int, int]:
    """The size of the engine that is asked for: of an odd one, the next that the network can halve.

    Raises:
        ShapeError: it is larger than the bundle takes.
    """
    from scanside.engines.shapes import own_size

    shapes = bundle.manifest.shapes
    return size if size in shapes.buckets else own_size(bundle.manifest.lowering, shapes, *size)


def _size(text: str) -> tuple[int, int]:
    k1, _, k0 = text.replace("×", "x").partition("x")
    if not (k1.isdecimal() and k0.isdecimal() and int(k1) and int(k0)):
        raise typer.BadParameter(f"--bucket {text}: expected two sizes, such as 256x256")
    return int(k1), int(k0)


def need_training() -> None:
    """Refuse where the extra is missing without which no network is built or exported.

    Raises:
        MissingExtra: it is.
    """
    for package in ("lightning", "safetensors"):
        if find_spec(package) is None:
            raise MissingExtra(package, "training", "graphs of networks")
