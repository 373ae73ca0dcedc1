"""``scanside engines``: bundles of learned engines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scanside.cli.console import console, err, print_json, table
from scanside.cli.engine_build import build, need_training
from scanside.cli.engine_plans import install_plans, plan_table, plans_here, print_plan, states_as_json
from scanside.errors import ScansideError

if TYPE_CHECKING:
    from scanside.engines.bundle import Bundle
    from scanside.engines.manifest import ColumnsForm, Manifest, Uncertainty
    from scanside.engines.releases import Release

__all__ = ["engines"]

engines = typer.Typer(
    help="List, check, sign and install the bundles that learned engines come from, and plans of TensorRT-RTX.",
    no_args_is_help=True,
)

engines.command()(build)

_Name = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's name, or its folder (with a /).")]
_NameOrPlan = Annotated[
    str,
    typer.Argument(metavar="BUNDLE|PLAN", help="A bundle's name, its folder (with a /), or a plan's folder."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@engines.command("list")
def list_bundles(as_json: _Json = False) -> None:
    """List the bundles that are found by name, those that come with Scanside and those in SCANSIDE_ENGINES, and the
    plans that are installed on this machine, accepted here or not.
    """
    from rich.markup import escape

    from scanside.engines.bundle import Bundle
    from scanside.engines.catalog import available_bundles

    entries: list[dict[str, Any]] = []
    rows = table(
        "bundle",
        "task",
        "precisions",
        "parameters",
        "MB",
        "signed by",
        "what it does",
        right=("parameters", "MB"),
    )
    for name, folder in available_bundles().items():
        try:
            bundle = Bundle.open(folder)
        except ScansideError as error:
            entries.append({"name": name, "folder": str(folder), "error": str(error)})
            rows.add_row(f"[bold]{escape(name)}[/]", *[""] * 5, f"[red]{escape(str(error))}[/]")
            continue
        manifest = bundle.manifest
        entries.append(
            {
                "name": name,
                "version": manifest.version,
                "folder": str(folder),
                "task": manifest.task,
                "precisions": list(manifest.precisions),
                "n_parameters": manifest.n_parameters,
                "size": manifest.size,
                "signer": str(bundle.signer) if bundle.signer else None,
                "trusted": bundle.signer is not None and bundle.signer.trusted,
                "description": manifest.description,
            }
        )
        rows.add_row(
            f"[bold]{escape(name)}[/] {manifest.version}",
            manifest.task,
            ", ".join(manifest.precisions),
            f"{manifest.n_parameters:,}",
            f"{manifest.size / 1e6:.1f}",
            escape(str(bundle.signer)) if bundle.signer else "[dim]no one[/]",
            escape(manifest.description),
        )
    plans = plans_here()
    if as_json:
        print_json({"bundles": entries, "plans": states_as_json(plans)})
        return
    if entries:
        console.print(rows)
        console.print("\nAll of one: scanside engines show BUNDLE", style="dim")
    else:
        err.print(
            "No bundles found: none came with this installation, and SCANSIDE_ENGINES names no folder with any."
        )
    if plans:
        console.print(plan_table(plans))


@engines.command()
def show(name: _NameOrPlan, as_json: _Json = False) -> None:
    """Show what a bundle says of itself: data, sampling, quality, which engines were accepted, and its plans here.

    Of a plan: what it was made from and for.
    """
    from scanside.engines.bundle import Bundle
    from scanside.engines.catalog import find_bundle
    from scanside.engines.plan_store import Plan, is_plan

    if is_plan(Path(name)):
        print_plan(Plan.open(Path(name)), as_json=as_json)
        return
    bundle = Bundle.open(find_bundle(name))
    weights = bundle.manifest.weights_sha256
    plans = [one for one in plans_here() if one.stored.record and one.stored.record.weights_sha256 == weights]
    if as_json:
        said = bundle.manifest.model_dump(mode="json")
        print_json({"folder": str(bundle.folder), **said, "plans": states_as_json(plans)})
        return
    _show_facts(bundle)
    _show_metrics(bundle.manifest)
    _show_acceptance(bundle.manifest)
    if plans:
        console.print(plan_table(plans))


@engines.command()
def verify(
    name: _NameOrPlan,
    require_signature: Annotated[
        bool, typer.Option("--require-signature", help="Refuse what no trusted key signed.")
    ] = False,
    keys: Annotated[
        Path | None, typer.Option(help="Folder of trusted public keys, instead of SCANSIDE_TRUSTED_KEYS.")
    ] = None,
) -> None:
    """Check a bundle, a plan or a folder of plans: all hashes, what graphs could do when opened, and signatures."""
    from rich.markup import escape

    from scanside.engines.bundle import Bundle
    from scanside.engines.catalog import find_bundle
    from scanside.engines.plan_store import Plan, plan_folders
    from scanside.engines.trust import TrustPolicy

    policy = TrustPolicy(require_signature=require_signature, keys=keys)
    if plans := plan_folders(Path(name)):
        for plan in (Plan.open(folder, policy) for folder in plans):
            signed = f"signed by {plan.signer}" if plan.signer else "not signed"
            console.print(
                f"[green]✓[/] [bold]{escape(plan.record.name)}[/]: plan unchanged, {escape(signed)}\n"
                f"[dim]{escape(str(plan.folder))}[/]",
                soft_wrap=True,
            )
        return
    folder = find_bundle(name)
    bundle = Bundle.open(folder, policy)
    manifest = bundle.manifest
    signed = f"signed by {bundle.signer}" if bundle.signer else "not signed"
    console.print(
        f"[green]✓[/] [bold]{escape(manifest.name)}[/] {manifest.version}: {len(manifest.files)} files unchanged, "
        f"graphs without code, {escape(signed)}\n[dim]{escape(str(folder))}, weights {manifest.weights_sha256}[/]",
        soft_wrap=True,
    )


@engines.command()
def sign(
    name: _NameOrPlan,
    key: Annotated[Path, typer.Option(help="File of the private key (scanside engines keygen).")],
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Ask for the key's passphrase.")] = False,
) -> None:
    """Sign a bundle, a plan or a folder of plans, once it was found whole. An earlier signature is replaced."""
    from scanside.engines.bundle import sign_bundle
    from scanside.engines.catalog import find_bundle
    from scanside.engines.plan_store import plan_folders, sign_plan

    plans = plan_folders(Path(name))
    folders, run = (plans, sign_plan) if plans else ([find_bundle(name)], sign_bundle)
    secret = _passphrase() if passphrase else None
    for folder in folders:
        key_id = run(folder, key, secret)
        console.print(f"{folder} is signed by key {key_id}", markup=False, soft_wrap=True)


@engines.command()
def keygen(
    name: Annotated[str, typer.Argument(help="Of the key: whose it is.")],
    folder: Annotated[Path, typer.Option(help="Where both files go.")] = Path(),
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase that encrypts the private key.")
    ] = False,
) -> None:
    """Make a pair of keys: a private one that signs, and a public one for those who trust it."""
    from scanside.engines.signing import generate_key
    from scanside.engines.trust import trusted_keys_folder

    private, public, key_id = generate_key(folder, name, _passphrase(new=True) if passphrase else None)
    console.print(
        f"key {key_id}\nprivate, keep it to yourself: {private}\n"
        f"public, for {trusted_keys_folder()} on machines that trust it: {public}",
        markup=False,
        soft_wrap=True,
    )


@engines.command()
def convert(
    name: _Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new bundle's folder.")],
    version: Annotated[
        str | None, typer.Option(help="Of the new bundle; by default the next minor version.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a bundle that is there.")] = False,
) -> None:
    """Write a bundle as this version builds it, without training: its weights in graphs that are exported anew.

    Engines take bundles as they are, whichever version built them; those that a backend refuses for an operator that
    networks no longer have are taken once they are converted.
    """
    need_training()
    from scanside.engines.bundle import Bundle
    from scanside.engines.catalog import find_bundle
    from scanside_deploy.convert import convert_bundle

    with err.status(f"exporting the graphs of {name}"):
        made = convert_bundle(Bundle.open(find_bundle(name)), output, version=version, replace=replace)
    console.print(
        f"{made.name} {made.version} is in {output}: the same images, weights {made.weights_sha256}\n"
        "No one signed it yet (scanside engines sign), and its engines are to be built (scanside engines build)",
        markup=False,
        soft_wrap=True,
    )


_Into = Annotated[
    Path | None,
    typer.Option("--into", help="Folder of the site's bundles, instead of the first in SCANSIDE_ENGINES."),
]


@engines.command()
def install(
    folder: Annotated[
        Path, typer.Argument(help="The bundle, the plan, or a folder of plans.", metavar="FOLDER")
    ],
    into: _Into = None,
    require_signature: Annotated[
        bool, typer.Option("--require-signature", help="Refuse what no trusted key signed.")
    ] = False,
) -> None:
    """Take a bundle into the site's folder, beside earlier releases of it, and make it the current one.

    Plans go to the engines of this machine, where the GPU has to accept each before it is used.
    """
    from scanside.engines.plan_store import plan_folders
    from scanside.engines.releases import install as run
    from scanside.engines.trust import TrustPolicy

    policy = TrustPolicy(require_signature=require_signature)
    if plans := plan_folders(folder):
        if into is not None:
            raise typer.BadParameter("--into is for bundles: plans go to the engine cache of this machine")
        install_plans(plans, policy)
    else:
        _say_current(run(folder, into, policy))


@engines.command()
def releases(name: _Name, into: _Into = None, as_json: _Json = False) -> None:
    """List the installed releases of a bundle; names are found with a pin whichever is the current one."""
    from scanside.engines.releases import releases as find

    found = find(name, into)
    if as_json:
        entries = [{**asdict(one), "folder": str(one.folder), "pin": one.pinned_name} for one in found]
        print_json({"releases": entries})
        return
    rows = table("release", "current", "pinned name", "weights")
    for one in found:
        mark = "[green]✓[/]" if one.current else ""
        rows.add_row(f"[bold]{one.version}[/]", mark, one.pinned_name, f"{one.weights_sha256[:12]}…")
    console.print(rows)


@engines.command()
def rollback(
    name: _Name,
    into: _Into = None,
    to: Annotated[
        str | None, typer.Option(help="Version, or hash, instead of the one that was current before.")
    ] = None,
) -> None:
    """Go back to the release of a bundle that was current before this one. Running scans keep what they have."""
    from scanside.engines.releases import rollback as run

    _say_current(run(name, into, to))


@engines.command()
def pin(name: _Name) -> None:
    """Print what a pipeline writes to take a bundle as it is now, and no other."""
    from scanside.engines.bundle import Bundle
    from scanside.engines.catalog import find_bundle

    bundle = Bundle.open(find_bundle(name))
    plain = name.partition("@sha256:")[0]
    console.print(f"{plain}@sha256:{bundle.sha256[:16]}", markup=False, soft_wrap=True)


def _say_current(release: Release) -> None:
    console.print(
        f"{release.name} is {release.version} now, {release.pinned_name}\n"
        f"{release.folder}, weights {release.weights_sha256}\n"
        "A running server takes it from its next session on; scans that run keep what they have. Build its engines "
        f"first (scanside engines build {release.name}), or have the server reload: no scan waits for them.",
        markup=False,
        soft_wrap=True,
    )


def _passphrase(*, new: bool = False) -> str:
    text: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return text


def _show_facts(bundle: Bundle) -> None:
    from rich.markup import escape

    from scanside.engines.shapes import largest

    manifest = bundle.manifest
    shapes, sampling = manifest.shapes, manifest.sampling
    ancestors = manifest.training.ancestors if manifest.training else ()
    facts = {
        "task": f"{manifest.task}, data consistency: {manifest.lowering}",
        "inputs": "; ".join(map(str, manifest.inputs)),
        "form 'columns'": "–" if manifest.columns is None else _columns(manifest.columns),
        "outputs": "; ".join(map(str, manifest.outputs)),
        "uncertainty": "–" if manifest.uncertainty is None else _uncertainty(manifest.uncertainty),
        "told of a scan": ", ".join(f"{one.name} ({one.trained})" for one in manifest.parameters) or "–",
        "input image": f"{manifest.input_image}, divided by its quantile {manifest.normalisation.quantile:g}",
        "sizes (k1×k0)": f"{_size(largest(shapes))} and no others"
        if shapes.fixed
        else f"any up to {_size(largest(shapes))}"
        + ("" if manifest.lowering != "fft" else f" in multiples of {shapes.multiple_of}")
        + f"; built beforehand: {', '.join(map(_size, shapes.buckets))}",
        "coils": "–" if shapes.coils is None else _coils(shapes.coils),
        "window": "–" if shapes.frames is None else f"{shapes.frames} frames",
        "precisions": ", ".join(manifest.precisions),
        "parameters": f"{manifest.n_parameters:,}",
        "trained for": (
            f"{', '.join(sampling.anatomy)}; R = {sampling.acceleration}, {sampling.acs_lines} ACS lines, "
            f"{', '.join(sampling.kinds)} along {sampling.undersampled_axes} axis; "
            f"matrix {sampling.matrix}, {sampling.n_coils} coils"
        ),
        "trained on": "\n".join(
            dict.fromkeys(f"{one.name} ({one.licence}): {one.what}" for one in manifest.trained_on)
        ),
        "caution": "\n".join(manifest.cautions) or "–",
        "goes back to": ", ".join(one.name for one in ancestors) or "–",
        "licence": manifest.licence,
        "signed by": str(bundle.signer) if bundle.signer else "no one",
        "weights": manifest.weights_sha256,
        "manifest": bundle.sha256,
        "made": f"{manifest.created:%Y-%m-%d} with "
        + ", ".join(f"{name} {version}" for name, version in sorted(manifest.made_with.items())),
    }
    console.print(f"[bold]{escape(manifest.name)}[/] {manifest.version}  {escape(manifest.description)}")
    console.print(f"[dim]{escape(str(bundle.folder))}[/]\n", soft_wrap=True)
    rows = table("", "")
    rows.show_header = False
    for name, value in facts.items():
        rows.add_row(f"[bold]{name}[/]", escape(value))
    console.print(rows)


def _size(size: tuple[int, int]) -> str:
    return "×".join(map(str, size))


def _columns(form: ColumnsForm) -> str:
    return (
        f"exact, for k1 below {form.below}, any number of coils; λ = {form.weight:.3g} noise² within "
        f"{form.smallest:g} and {form.largest:g}; inputs {'; '.join(map(str, form.inputs))}"
    )


def _uncertainty(found: Uncertainty) -> str:
    return (
        f"times {found.factor:.2f}; its correlation with the error was {found.correlation:.2f} on {found.n_images} "
        "images that trained nothing"
    )


def _coils(coils: object) -> str:
    return ", ".join(map(str, coils)) if isinstance(coils, tuple) else str(coils)


def _show_metrics(manifest: Manifest) -> None:
    for metrics in manifest.metrics:
        measures = list(dict.fromkeys(measure for row in metrics.rows.values() for measure in row))
        title = f"\n{metrics.dataset}" + (f", {metrics.sampling}" if metrics.sampling else "")
        rows = table("method", *measures, title=title, right=tuple(measures))
        for method, row in metrics.rows.items():
            rows.add_row(method, *(f"{row[measure]:.4g}" if measure in row else "" for measure in measures))
        console.print(rows)


def _show_acceptance(manifest: Manifest) -> None:
    from rich.markup import escape

    if not manifest.acceptance:
        return
    rows = table(
        "backend",
        "precision",
        "k1×k0",
        "coils",
        "ms",
        "verdict",
        "on",
        title="\nEngines where it was built",
        right=("ms",),
    )
    for report in manifest.acceptance:
        failed = ", ".join(check.name for check in report.failures)
        rows.add_row(
            report.backend,
            report.precision,
            f"{report.shape[0]}×{report.shape[1]}",
            str(report.n_coils or "–"),
            f"{report.median_ms:.1f}" if report.median_ms else "",
            "[green]accepted[/]" if report.passed else f"[red]refused: {escape(failed)}[/]",
            escape(report.hardware),
        )
    console.print(rows)
