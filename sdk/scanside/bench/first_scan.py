"""The first scan of a size that was prepared beside those after it, in processes that did nothing before.

``python -m scanside.bench.first_scan PIPELINE`` prepares a learned pipeline, takes scans of one frame, and prints the
milliseconds from last readout to image of each as JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from scanside.bench.scans import LEARNED, FrameScan, live_blocks
from scanside.context import Context
from scanside.errors import ScansideError
from scanside.items import Image
from scanside.mrd.messages import Readouts
from scanside.mrd.reader import decode
from scanside.pipeline import Pipeline
from scanside.scan import Scan, ScanEnd

__all__ = ["first_scan", "prepared"]

_PROCESSES = 5
_SCANS = 4


def first_scan(name: str) -> tuple[float, float]:
    """Milliseconds from last readout to image in a first scan and in the following ones, medians over processes.

    Args:
        name: of a learned pipeline, whose engine was built before.
    """
    times = []
    for _ in range(_PROCESSES):
        command = [sys.executable, "-m", __name__, name]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise ScansideError(f"a process of its own failed: {run.stderr.strip().splitlines()[-1:]}")
        times.append(json.loads(run.stdout.splitlines()[-1]))
    return (
        statistics.median(one[0] for one in times),
        statistics.median(ms for one in times for ms in one[1:]),
    )


def prepared(name: str, scan: FrameScan) -> Pipeline:
    """A learned pipeline that is ready for the size of a scan."""
    size, coils = [[scan.n_lines, scan.n_samples // 2]], [scan.n_coils]
    pipeline = Pipeline.load(name, {"engine.sizes": size, "engine.n_coils": coils})
    pipeline.prepare(Context(device="cpu"))
    return pipeline


def main() -> None:
    """Take the scans."""
    pipeline = prepared(sys.argv[1], LEARNED)
    sys.stdout.write(json.dumps([_last_to_image(pipeline, LEARNED) for _ in range(_SCANS)]) + "\n")


def _last_to_image(pipeline: Pipeline, scan: FrameScan) -> float:
    """Milliseconds from the last readouts of a scan to its image."""
    frame, _ = scan.frame()
    with pipeline.open(Scan.from_xml(scan.header_xml)) as run:
        for message in decode(scan.noise_readout()):
            assert isinstance(message, Readouts)
            list(run.push(message))
        *blocks, last = live_blocks(frame)
        for block in blocks:
            list(run.push(block))
        begun = time.perf_counter()
        (image,) = (item for item in run.push(last) if isinstance(item, Image))
        took = 1e3 * (time.perf_counter() - begun)
        list(run.finish(ScanEnd()))
    if "ScansideFallback" in image.meta:
        raise ScansideError(f"the network made no image: {image.meta['ScansideFallback'][2]}")
    return took


if __name__ == "__main__":
    main()
