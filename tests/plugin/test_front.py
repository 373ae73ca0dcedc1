"""The package that stands before gadgetron-python changes one thing, for our node alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import scanside_gadgetron
from scanside.mrd.messages import Close, ConfigText, HeaderXml
from scanside.mrd.writer import encode

pytestmark = [pytest.mark.torch_free, pytest.mark.timeout(120)]

FRONT = Path(scanside_gadgetron.__file__).parent / "front"
STRANGE = b"<ismrmrdHeader><somethingNew/></ismrmrdHeader>"
TELLING = """
import sys
def tell(connection):
    sys.stdout.write(f"header {connection.header}, {connection.raw_bytes.header}")
"""


@pytest.fixture(autouse=True)
def _gadgetron() -> None:
    pytest.importorskip("gadgetron")


def run(tmp_path: Path, *arguments: str, script: str = "") -> subprocess.Popen[str]:
    command = ["-c", script] if script else ["-m", "gadgetron", *arguments]
    paths = [str(FRONT), str(tmp_path), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("module", "reads"), [("scanside_gadgetron", True), ("another", False)])
def test_only_our_node_gets_a_header_that_the_strict_reader_refuses(
    tmp_path: Path, module: str, reads: bool
) -> None:
    (tmp_path / f"{module}.py").write_text(TELLING)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        process = run(tmp_path, str(listener.getsockname()[1]), module, "tell")
        connection, _ = listener.accept()
        with connection:
            connection.sendall(encode(ConfigText(b"<configuration/>"), HeaderXml(STRANGE), Close()))
            out, log = process.communicate(timeout=60)
    assert (process.returncode == 0) is reads, log
    assert out == (f"header None, {STRANGE!r}" if reads else "")
    assert ("somethingNew" in log and "Traceback" in log) is not reads


def test_all_else_is_gadgetron_python(tmp_path: Path) -> None:
    script = """
import os, gadgetron, gadgetron.external.connection
assert "front" not in gadgetron.__file__ + os.environ["PYTHONPATH"], gadgetron.__file__
assert gadgetron.__version__
"""
    process = run(tmp_path, script=script)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0
    process = run(tmp_path)
    assert "Gadgetron External Python Module" in process.communicate(timeout=60)[0]
