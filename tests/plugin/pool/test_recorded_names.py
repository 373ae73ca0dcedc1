"""What a server records of a session names nobody, neither the stream nor what stands beside it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scanside.mrd.messages import Close, ConfigFile, ErrorText, HeaderXml, ImageMessage, Message, Text
from scanside.mrd.meta import Meta
from scanside.mrd.writer import encode
from scanside.recording import RecordingConfig, RecordingRing
from scanside.testing.small import small_readouts, small_scan

OpenHouse = Callable[..., AbstractContextManager[Any]]

NAME = "Mustermann^Erika"
PARTS = re.compile(rb"mustermann|erika", re.IGNORECASE)


def header() -> bytes:
    return small_scan().header.xml.replace(
        b"<measurementInformation>",
        f"<!-- {NAME} --><subjectInformation><patientName>{NAME}</patientName></subjectInformation>"
        f"<measurementInformation><protocolName>knee {NAME}</protocolName>".encode(),
    )


def session(house: Any, *messages: Message) -> None:
    with socket.create_connection(("127.0.0.1", house.server.port), 300) as host:
        host.sendall(encode(*messages))
        while host.recv(1 << 20):
            pass


@pytest.mark.parametrize("pipeline", ["same", NAME])
def test_names_in_every_place(house: OpenHouse, tmp_path: Path, pipeline: str) -> None:
    folder = tmp_path / "recordings"
    record = RecordingConfig(folder=folder, keep=("all",), spare_gigabytes=0)
    meta = Meta({"DataRole": "Image", "ImageComments": NAME}).to_xml()
    with house(record=record) as one:
        session(
            one,
            ConfigFile(pipeline),
            Text(json.dumps({"version": "1.1.0", "parameters": {"comment": NAME, NAME: 1}})),
            HeaderXml(header()),
            Text(f"scan of {NAME}"),
            *small_readouts(),
            ImageMessage.from_array(np.ones((1, 1, 4, 4), np.float32), meta),
            HeaderXml(header()),
            ErrorText(NAME),
            Close(),
        )
        (entry,) = one.wait_for(RecordingRing(folder).entries)
    assert entry.outcome == "failed"  # nothing may come after the header but data and texts
    assert entry.complete
    assert entry.kept
    for path in folder.iterdir():
        assert PARTS.search(path.read_bytes()) is None, path
        assert path.stat().st_mode & 0o077 == 0, path
