"""Steps aside for gadgetron-python, after making it leave headers to our node that its own reader refuses.

::

    PYTHONPATH=…/scanside_gadgetron/front python -m gadgetron PORT scanside_gadgetron reconstruct

gadgetron-python reads the scan's header before it imports the node. Its reader wants all that the schema requires and
knows no other elements, and ends in a traceback that no peer learns of. Our node reads the header itself, and tells
the peer what is wrong with one. Everything else, and any other node, is gadgetron-python as it is installed.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parents[1]


def _elsewhere(entries: list[str]) -> list[str]:
    return [entry for entry in entries if Path(entry).resolve() != _HERE]


def _leave_headers_to_the_node() -> None:
    reader: Any = importlib.import_module("ismrmrd.xsd")
    strict = reader.CreateFromDocument

    def read(document: bytes | str) -> Any:
        try:
            return strict(document)
        except Exception as error:  # noqa: BLE001 — whatever its parser raises, ours has the last word
            logging.getLogger(__name__).info("gadgetron-python does not read this header: %s", error)
            return None

    reader.CreateFromDocument = read


sys.path[:] = _elsewhere(sys.path)
os.environ["PYTHONPATH"] = os.pathsep.join(_elsewhere(os.environ.get("PYTHONPATH", "").split(os.pathsep)))
del sys.modules["gadgetron"]
importlib.import_module("gadgetron")
if sys.argv[2:3] == ["scanside_gadgetron"]:
    _leave_headers_to_the_node()
