"""``scanside simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanside.cli.console import console, progress_bar, table
from scanside.cli.options import different_files, nested, settings_from

if TYPE_CHECKING:
    from scanside.simulate import ScanConfig

__all__ = ["simulate"]


def simulate(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="ISMRMRD HDF5 file to write.")] = None,
    preset: Annotated[str | None, typer.Option(help="A scan by name; see --list.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with settings that replace the preset's.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="One more setting, as coils.n_coils=16; may be repeated."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="File (.npz) for true images, coil maps and affines.")
    ] = None,
    noise: Annotated[
        Path | None,
        typer.Option(help="File for the noise scan, where it is a separate one (noise.scan=separate)."),
    ] = None,
    list_presets: Annotated[bool, typer.Option("--list", help="List the presets and exit.")] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print the whole configuration as YAML and exit.")
    ] = False,
) -> None:
    """Make an ISMRMRD scan whose truth is known."""
    if list_presets:
        _list()
        return
    scan = _configure(preset, config, changes or [])
    if show:
        import yaml

        console.print(
            yaml.safe_dump(scan.model_dump(mode="json"), sort_keys=False), markup=False, soft_wrap=True
        )
        return
    if output is None:
        raise typer.BadParameter("say where the scan goes: --output FILE.h5")
    different_files(output, truth, noise)
    _write(scan, output, truth, noise)


def _list() -> None:
    from scanside.simulate import PRESETS

    rows = table("preset", "what it is")
    for name, make in PRESETS.items():
        rows.add_row(f"[bold]{name}[/]", " ".join((make.__doc__ or "").split()))
    console.print(rows)
    console.print("\nIts settings: scanside simulate --preset NAME --show", style="dim")


def _configure(preset: str | None, file: Path | None, changes: list[str]) -> ScanConfig:
    import yaml
    from pydantic import ValidationError

    from scanside.errors import ConfigError
    from scanside.simulate import ScanConfig
    from scanside.simulate import preset as load_preset

    if preset is None and file is None and not changes:
        raise typer.BadParameter("say what to simulate: --preset NAME (see --list), --config FILE or --set")
    document = (ScanConfig() if preset is None else load_preset(preset)).model_dump()
    if file is not None:
        try:
            from_file = yaml.safe_load(file.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not valid YAML: {error}") from error
        if not isinstance(from_file, dict):
            raise ConfigError(f"{file} holds {type(from_file).__name__}, expected a mapping of settings")
        document = _merged(document, from_file)
    document = _merged(document, nested(settings_from(changes)))
    try:
        return ScanConfig.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"the scan's configuration does not hold: {problems}") from error


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The base with values replaced, group by group."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _write(config: ScanConfig, output: Path, truth: Path | None, noise: Path | None) -> None:
    from scanside.errors import ConfigError
    from scanside.mrd.hdf5 import Hdf5Writer
    from scanside.mrd.readouts import Readouts
    from scanside.simulate import simulate as run

    scan = run(config)
    if noise is not None and scan.noise_scan is None:
        raise ConfigError("--noise: the scan has no noise scan of its own; add --set noise.scan=separate")
    if scan.noise_scan is not None and noise is None:
        raise ConfigError(
            "the scan depends on a noise scan of its own: say where that goes with --noise FILE.h5"
        )
    for path in filter(None, (output, truth, noise)):
        path.parent.mkdir(parents=True, exist_ok=True)
    n_readouts = 0
    with progress_bar("simulating") as progress, Hdf5Writer(output, scan.header_xml) as writer:
        for item in scan.items():
            writer.write(item)
            n_readouts += len(item) if isinstance(item, Readouts) else 0
            progress(n_readouts, None)
    written = table("", "")
    written.show_header = False
    written.add_row("scan", f"{output}", f"{n_readouts} readouts")
    if scan.noise_scan is not None and noise is not None:
        with Hdf5Writer(noise, scan.noise_scan.header_xml) as writer:
            for readouts in scan.noise_scan.items():
                writer.write(readouts)
        written.add_row("noise scan", f"{noise}")
    if truth is not None:
        scan.truth.save(truth)
        written.add_row("truth", f"{truth}")
    console.print(written)
