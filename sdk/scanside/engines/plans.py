"""Plans of TensorRT-RTX: engines built on any machine, for GPUs that are not there.

A plan is a folder with two files::

    engine.plan     TensorRT-RTX's own serialised plan, weights inside
    plan.json       what it was made from and for, and the hash of the plan

Building one takes no GPU, no driver and no CUDA build of torch. Whether it computes what the network computes is
another question, which only a GPU answers: the gate, at the first load. The GPU makes its own kernels from the plan,
so that one plan serves all compute capabilities in its list, on the operating system and the kind of processor that
it was built on.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from scanside.engines.backends.trt_build import RTX, build_plan
from scanside.engines.build import BundleSource
from scanside.engines.hashing import file_record, write_atomically
from scanside.engines.manifest import (
    Precision,
)
from scanside.engines.plan_record import (
    DEFAULT_TARGETS,
    PLAN_FILE,
    RECORD_FILE,
    Form,
    PlanRecord,
    PlanTensor,
    check_targets,
    plan_name,
    this_platform,
)

__all__ = ["build_plan_folder"]


def build_plan_folder(
    source: BundleSource,
    precision: Precision,
    output: Path,
    targets: Sequence[str] = DEFAULT_TARGETS,
    *,
    replace: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Path, PlanRecord]:
    """Build the plan of a bundle in one size and precision.

    Args:
        source: the bundle in the plan's shapes.
        precision: one that the bundle has a graph of.
        output: folder for plans; this one gets a folder of its own in it, named by `plan_name`.
        targets: compute capabilities of the GPUs that it is for.
        replace: put it in the place of one that is there.
        progress: is told what is being done.

    Returns:
        Its folder and its record.

    Raises:
        BackendUnavailable: this machine lacks what building takes; says what, and how to get it.
        BundleError: there is no graph of this precision.
        ConfigError: a target is no compute capability.
        EngineError: TensorRT-RTX makes no plan of the graph; says which operator, and what to do.
        EnginePostponed: building failed for a reason that passes.
        FileExistsError: a plan of this name is there, and it is not to be replaced.
    """
    targets = check_targets(targets)
    manifest = source.bundle.manifest
    form: Form | None = None if source.form == "principal" else source.form
    name = plan_name(manifest.name, manifest.version, source.shape, source.n_coils, form, precision)
    folder = output / name
    if folder.exists() and not (replace and (folder / RECORD_FILE).is_file()):
        raise FileExistsError(f"{folder} exists: choose another folder, or ask to replace the plan in it")
    graph = source.bundle.graph_sha256(precision, source.form)
    start = time.monotonic()
    built = build_plan(source, precision, RTX, targets, progress)
    seconds = time.monotonic() - start
    output.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=output, prefix=f".{name}."))
    try:
        draft.chmod(0o755)
        write_atomically(draft / PLAN_FILE, built.data)
        record = PlanRecord(
            bundle=manifest.name,
            version=manifest.version,
            manifest_sha256=source.bundle.sha256,
            weights_sha256=manifest.weights_sha256,
            graph_sha256=graph,
            form=form,
            shape=source.shape,
            n_coils=source.n_coils,
            precision=precision,
            inputs=tuple(PlanTensor(name=one.name, shape=one.shape) for one in source.inputs),
            output=built.output,
            targets=targets,
            platform=this_platform(),
            versions=built.versions,
            layers=built.n_layers,
            build_seconds=round(seconds, 1),
            created=datetime.now(timezone.utc),
            files={PLAN_FILE: file_record(draft / PLAN_FILE)},
        )
        write_atomically(draft / RECORD_FILE, record.to_bytes())
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return folder, record
