"""Send a recorded scan through a pipeline: in this process, through a Gadgetron node, or through an MRD server.

All three ways give the same images. The node and the server run in processes of their own, started exactly as
Gadgetron and an operator start them, and this side plays the other part.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy.typing as npt

from scanside.context import Context
from scanside.convert import Form, Outlet, items_of
from scanside.errors import ConfigError
from scanside.execution import execute
from scanside.items import Item
from scanside.losses import with_left_out
from scanside.mrd.files import open_recording
from scanside.mrd.hdf5 import unfinished
from scanside.mrd.messages import ConfigFile, ConfigText
from scanside.noise_store import NoiseStore
from scanside.pipeline import Observe, Pipeline
from scanside.replay.conversation import configuration, converse
from scanside.replay.peers import absolute, environment_of, node, server
from scanside.replay.result import Progress, ReplayResult, Via
from scanside.replay.sending import Sending, kept_flags, mask_of
from scanside.replay.taking import Taking, take_images
from scanside.replay.undersampling import Regular
from scanside.scan import Scan
from scanside.serving import without_images
from scanside.simulate.playback import Speed
from scanside.threads import one_blas_thread
from scanside.trace import Trace

__all__ = [
    "replay",
]

logger = logging.getLogger(__name__)


def replay(
    recording: str | Path,
    pipeline: str | Path | Pipeline = "grappa",
    output: str | Path | None = None,
    *,
    via: Via = "direct",
    speed: Speed = "max",
    settings: Mapping[str, Any] | None = None,
    undersample: str | Path | npt.ArrayLike | Regular | None = None,
    group: str | None = None,
    device: str = "auto",
    threads: bool = True,
    noise_store: str | Path | None = None,
    form: Form | None = None,
    block: int = 256,
    observe: Observe | None = None,
    on_progress: Progress | None = None,
    on_step: Callable[[str], None] | None = None,
    prepared: Context | None = None,
    pool: str | Path | None = None,
) -> ReplayResult:
    """Reconstruct a recorded scan.

    Args:
        recording: ISMRMRD HDF5 file or ISMRMRD stream; ``-`` is standard input.
        pipeline: name or file; a `Pipeline` object for ``direct`` only.
        output: ISMRMRD HDF5 file for the images; it gets its name once it is whole.
        via: ``direct`` runs the pipeline in this process, ``gadgetron`` in a node started as Gadgetron does,
            ``mrd`` in a server that is started for it.
        speed: ``max``, ``realtime``, or a factor to the scanner's pace.
        settings: changed settings, as ``"stage.setting": value``.
        undersample: keep only some phase-encoding lines of the scan: 0 and 1 (or false and true) for every value
            of the counter kspace_encode_step_1, as an array or a ``.npy`` file; `Regular` makes them of a fully
            sampled scan. Readouts that are no lines of an
            image, and separate calibration lines, stay. Lines that are kept take over the flags that end a slice,
            repetition or measurement from lines that are not. The header's user parameter ScansideUndersampling
            tells the mask, so that no image counts as incomplete for it.
        group: group of an HDF5 file to read; by default ``dataset`` or the only one.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: read, compute and write in threads of their own (``direct``; the others always do).
        noise_store: folder that keeps noise covariances from scan to scan.
        form: in what kind of message images travel; None for that of the recording.
        block: most readouts in a block.
        observe: looks at what the stages give (``direct`` only); see `scanside.pipeline.Observe`.
        on_progress: called as readouts are sent.
        on_step: called with what takes long before the first of them, such as engines that have to be built.
        prepared: what a `Pipeline` object was prepared with already, for many scans in a row (``direct`` only); its
            device and noise store hold then.
        pool: socket of a server on this machine (``scanside serve --handover``) that the node hands the scan over to
            (``gadgetron`` only); by default the node runs the pipeline itself.

    Raises:
        ScansideError: anything that is wrong with recording, pipeline or scan. For node and server it is
            `PeerReported` with the text that an operator would see, or `PeerGone` with what they wrote to their log
            when they ended without a word.
        ValueError: `via` or `speed` is not known, or an object of this process was given for another one.
        FileNotFoundError: there is no such recording.
    """
    if via not in ("direct", "gadgetron", "mrd"):
        raise ValueError(f"via is 'direct', 'gadgetron' or 'mrd', got {via!r}")
    if via != "direct" and (isinstance(pipeline, Pipeline) or observe is not None or prepared is not None):
        raise ValueError(
            f"via {via!r} the pipeline runs in another process: give its name or file, and no observer"
        )
    if prepared is not None and not isinstance(pipeline, Pipeline):
        raise ValueError("what was prepared is a Pipeline object: give that object")
    result = ReplayResult(output=None if output is None else Path(output))
    _refuse_overwriting(recording, result.output)
    mask = mask_of(undersample, recording, group)
    kept = None if mask is None else kept_flags(recording, group, mask)
    with ExitStack() as stack:
        stack.enter_context(_rest_is_told(result))
        source = stack.enter_context(open_recording(recording, group))
        # The header tells which lines were left out, so that no later stage takes them for lost.
        header_xml = source.header_xml if mask is None else with_left_out(source.header_xml, mask)
        sending = Sending(source, header_xml, kept, speed, block, result, on_progress)
        take = Taking(result, stack, header_xml)
        folder = None if noise_store is None else Path(noise_store)
        if via == "direct":
            direct = pipeline if isinstance(pipeline, Pipeline) else Pipeline.load(pipeline, settings)
            context = prepared or Context(device, NoiseStore(folder), tell=on_step or logger.info)
            if prepared is None:
                # Engines are built for this very scan, and before it begins.
                direct.prepare(replace(context, builds_engines=False))
            _direct(direct, sending, take, context, threads, form, observe)
        else:
            assert not isinstance(pipeline, Pipeline)
            log = stack.enter_context(tempfile.TemporaryFile())
            environment = environment_of(device, folder, None if pool is None else Path(pool))
            if via == "gadgetron":
                opening: ConfigFile | ConfigText = ConfigText(
                    configuration(absolute(pipeline), settings, form)
                )
                stream = stack.enter_context(node(environment, log))
            else:
                # A server takes the paths of files from its operator only, so the pipeline is made its default.
                named = not settings and form is None
                opening = ConfigFile("default") if named else ConfigText(configuration(None, settings, form))
                stream = stack.enter_context(server(absolute(pipeline), environment, log))
            converse(stream, opening, sending, take, log)
    if not result.images:
        _tell_once(result.warnings, without_images(result.n_readouts))
    return result


def _refuse_overwriting(recording: str | Path, output: Path | None) -> None:
    if output is not None and str(recording) != "-" and output.exists() and output.samefile(recording):
        raise ConfigError(f"the images would replace the recording {recording}: name another output")


@contextmanager
def _rest_is_told(result: ReplayResult) -> Iterator[None]:
    """After a failure, say where the images are that came before it; a file without any is removed."""
    try:
        yield
    except BaseException:
        part = None if result.output is None else unfinished(result.output)
        if part is not None and part.exists():
            if result.images:
                logger.warning("%d images that came before the failure are in %s", len(result.images), part)
            else:
                part.unlink()
        raise


def _tell_once(warnings: list[str], text: str) -> None:
    if text not in warnings:
        warnings.append(text)


def _direct(
    pipeline: Pipeline,
    sending: Sending,
    take: Taking,
    context: Context,
    threads: bool,
    form: Form | None,
    observe: Observe | None,
) -> None:
    scan = Scan.from_xml(sending.header_xml)
    result = take.result
    result.warnings = scan.warnings
    result.trace = Trace()
    outlet = Outlet(form)

    def source() -> Iterator[Item]:
        for message in sending:
            outlet.came(message)
            yield from items_of(message, scan, context)

    def write(item: Item) -> None:
        for message in outlet.messages(item):
            take_images(message, scan, take)

    pipeline.expect(scan.header)
    started = perf_counter()
    with one_blas_thread(), pipeline.open(scan, result.trace, observe) as run:
        execute(run, source(), write, threads=threads)
        for message in outlet.finish():
            take_images(message, scan, take)
    result.seconds = perf_counter() - started
