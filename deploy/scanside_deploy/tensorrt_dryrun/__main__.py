"""``python -m scanside_deploy.tensorrt_dryrun``: check all networks and say what that shows and what it does not.

Exit status: 0 if every network becomes one engine and the control is found wanting, 1 if not, 2 if the check
cannot be made here.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import torch

from scanside.errors import BackendUnavailable
from scanside_deploy.tensorrt_dryrun.check import TOLERANCE, DryRun, dry_run
from scanside_deploy.tensorrt_dryrun.networks import candidates
from scanside_deploy.tensorrt_dryrun.quick import quick_graphs
from scanside_deploy.tensorrt_dryrun.stand_in import torch_tensorrt_without_tensorrt

NOT_SHOWN = """\
What this does not show: TensorRT itself took no part. Whether it builds an engine from these graphs, how fast that
is, and how precise on a GPU, is known only where there is one: build it there with 'scanside engines build', which
accepts it only if it agrees with the network, and run the tests marked 'tensorrt'."""


def main(arguments: list[str] | None = None) -> int:
    """Run the check and write its report to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m scanside_deploy.tensorrt_dryrun", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    options = parser.parse_args(arguments)
    try:
        return _report(options.json)
    except BackendUnavailable as error:
        sys.stderr.write(f"the dry run cannot be made: {error}\n")
        return 2


def _report(json_file: Path | None) -> int:
    results: list[DryRun] = []
    n_failed = 0
    with torch_tensorrt_without_tensorrt() as torch_tensorrt, quick_graphs(), warnings.catch_warnings():
        # torch's of itself, one for every network.
        warnings.simplefilter("ignore", FutureWarning)
        bindings = sys.modules["tensorrt"].__version__
        _say(
            f"torch {torch.__version__}, torch-tensorrt {torch_tensorrt.__version__}, TensorRT bindings {bindings}"
        )
        for candidate in candidates():
            start = time.perf_counter()
            result = dry_run(
                torch_tensorrt, candidate.name, candidate.source, candidate.tensors, candidate.precision
            )
            as_expected = (not result.problems) == candidate.must_pass
            n_failed += not as_expected
            results.append(result)
            _say(f"{_line(result, as_expected)}  {time.perf_counter() - start:4.1f} s")
            for problem in result.problems:
                _say(f"        {problem}")
            del candidate
            gc.collect()
    if json_file is not None:
        rows = [asdict(result) | {"problems": result.problems} for result in results]
        json_file.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    limits = ", ".join(f"{precision} {limit:g}" for precision, limit in TOLERANCE.items())
    _say(f"\nrel. error: lowered graph against the network in PyTorch, both on the CPU; limits {limits}")
    _say("control: a network with torch.fft, which is found to be cut into pieces, as it must be")
    _say(NOT_SHOWN)
    _say(f"{len(results) - n_failed} of {len(results)} as expected")
    return 1 if n_failed else 0


def _line(result: DryRun, as_expected: bool) -> str:
    error = "not run" if result.relative_error is None else f"{result.relative_error:.1e}"
    engines = f"{result.n_engines} engine{'' if result.n_engines == 1 else 's'}"
    return (
        f"{'ok  ' if as_expected else 'FAIL'} {result.network:<32} {result.precision}  {engines:>9}, "
        f"{result.n_supported}/{result.n_operators} operators, {len(result.fallback)} in PyTorch, "
        f"rel. error {error}"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
