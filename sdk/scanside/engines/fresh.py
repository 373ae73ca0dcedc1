"""Loads and runs an engine in a process of its own that finds no compiler, as at the scanner.

``python -m scanside.engines.fresh BACKEND PRECISION FOLDER`` prints the engine's relative error on its check
inputs as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scanside.engines.backends import backend
from scanside.engines.check import read_check
from scanside.engines.graph import ShapesOnly
from scanside.engines.manifest import Precision
from scanside.engines.passing import TRY_AGAIN, passes, process_error
from scanside.errors import EnginePostponed

__all__ = ["run_fresh"]

_TIME_LIMIT_S = 300
_COMPILERS = ("CC", "CXX", "CUDA_HOME", "CUDA_PATH")


def run_fresh(name: str, precision: Precision, folder: Path) -> float:
    """The relative error of an engine that a new process without a compiler loads.

    Args:
        name: of the backend.
        precision: as built.
        folder: of the engine, with its check inputs.

    Raises:
        EngineError: the process failed or crashed.
        EnginePostponed: it was killed from outside, took longer than five minutes, or lacked memory, disk or the
            right to execute where temporary files lie.
    """
    with tempfile.TemporaryDirectory() as empty:
        kept = {key: value for key, value in os.environ.items() if key not in _COMPILERS}
        # An empty search path, and no cache of what was compiled before.
        environment = {**kept, "PATH": empty, "TORCHINDUCTOR_CACHE_DIR": empty, "TRITON_CACHE_DIR": empty}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-m", __name__, name, precision, str(folder)]
        try:
            run = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise EnginePostponed(
                f"a fresh process did not load the engine within {_TIME_LIMIT_S} s"
            ) from None
    if run.returncode:
        raise process_error(
            "a fresh process that loads the engine without a compiler", run.returncode, run.stderr
        )
    return float(json.loads(run.stdout.splitlines()[-1])["relative_error"])


def main() -> None:
    """Run one engine."""
    name, precision, folder = sys.argv[1:]
    try:
        check = read_check(Path(folder))
        one = backend(name)
        runner = one.load(Path(folder), ShapesOnly(check.shapes), precision)  # type: ignore[arg-type]
        error = check.error_of(runner)
        one.settle(runner, Path(folder))
    except Exception as failure:
        if passes(failure):
            sys.stderr.write(f"{type(failure).__name__}: {failure}\n")
            sys.exit(TRY_AGAIN)
        raise
    sys.stdout.write(json.dumps({"relative_error": error}) + "\n")


if __name__ == "__main__":
    main()
