"""How numeric libraries share work among threads, and how long these wait for one another before they sleep."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ONE_BLAS_THREAD", "one_blas_thread", "sleep_soon"]

_SPINS = "3000"
_NUMPYS_LIBRARIES = "numpy.libs"  # beside it, in wheels; torch's own are elsewhere, and keep their threads

ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""What `one_blas_thread` does, for the environment of a process that is to be started."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within it NumPy's matrix products are not shared among threads, unless ``OPENBLAS_NUM_THREADS`` says else.

    NumPy whitens readouts one by one, and a readout is done before a second thread has woken up. Shared among
    threads, it waits for one that the system runs when it gets to it: on a machine with other work, such as
    Gadgetron's own, that is milliseconds for each readout. What is large enough to be shared is torch's.
    """
    if any(name in os.environ for name in ONE_BLAS_THREAD):
        yield
        return
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController()
    paths = [found["filepath"] for found in libraries.info()]
    numpys = [path for path in paths if Path(path).parent.name == _NUMPYS_LIBRARIES]
    with libraries.select(filepath=numpys).limit(limits=1):
        yield


def sleep_soon(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have threads of torch spin for some microseconds while they wait, and then sleep.

    That is what the next step of a network takes to come. By itself libgomp spins a hundred times as long, and on a
    machine with other work, such as Gadgetron's own, the thread that is waited for does not get to run meanwhile. It
    reads this when it is loaded: call it before torch is. What whoever installs this has chosen stands.
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
