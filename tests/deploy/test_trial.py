"""A chain on trial gives the images that the pipeline gives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

from scanside.cli.deploy import deploy
from scanside.context import Context
from scanside.errors import ConfigError, FileFormatError, PeerGone, PeerReported, ScansideError
from scanside.mrd.hdf5 import Hdf5Writer
from scanside.mrd.streams import SocketStream
from scanside.replay import replay
from scanside.serving import PipelinePool, serve_stream
from scanside.simulate import CoilConfig, GeometryConfig, PhantomConfig, SamplingConfig, ScanConfig, simulate
from scanside_deploy.chains import chain
from scanside_deploy.trial import try_chain


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ScanConfig(
        phantom=PhantomConfig(kind="shepp-logan", supersampling=(1, 1, 1)),
        coils=CoilConfig(n_coils=4),
        sampling=SamplingConfig(acceleration=(2, 1), acs=(12, 0)),
        geometry=GeometryConfig(matrix=(32, 32, 1), n_slices=2),
    )
    simulated = simulate(config)
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    with Hdf5Writer(path, simulated.header_xml) as writer:
        for item in simulated.items():
            writer.write(item)
    return path


@contextmanager
def server() -> Iterator[int]:
    """Serves one session."""
    pool = PipelinePool(Context("cpu"))

    def serve() -> None:
        sock, _ = listener.accept()
        stream = SocketStream(sock, 30, 30)
        serve_stream(stream, pool, drain_seconds=20)
        stream.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(300)


def write_chain(folder: Path, port: int, **settings: str) -> Path:
    path = folder / "chain.xml"
    named = {name.replace("_", ".", 1): value for name, value in settings.items()}
    path.write_text(chain("acquisitions", "connect", "grappa", named, address="127.0.0.1", port=port))
    return path


def images(path: Path) -> npt.NDArray[np.float32]:
    """The voxels of a file's images ``(image, channel, z, y, x)``."""
    with h5py.File(path) as file:
        return np.asarray(file["dataset/image_1/data"])


def test_images_are_those_of_the_pipeline(scan: Path, tmp_path: Path) -> None:
    direct = replay(scan, "grappa", settings={"finish.kind": "phase"}, device="cpu").images
    with server() as port:
        trial = try_chain(write_chain(tmp_path, port, finish_kind="phase"), scan, tmp_path / "images.h5")
    assert (trial.n_images, trial.n_readouts) == (2, replay(scan, "fft", device="cpu").n_readouts)
    assert trial.first_image_s is not None
    assert 0 < trial.first_image_s <= trial.seconds
    kept = images(tmp_path / "images.h5")
    assert len(kept) == len(direct) == 2
    for one, other in zip(kept, direct, strict=True):
        np.testing.assert_allclose(one, np.asarray(other.data), atol=1e-5)


def test_command(scan: Path, tmp_path: Path) -> None:
    with server() as port:
        path = write_chain(tmp_path, port)
        result = CliRunner().invoke(
            deploy, ["try", str(path), str(scan), "-o", str(tmp_path / "out" / "images.h5")]
        )
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("2 images of ")
    assert len(images(tmp_path / "out" / "images.h5")) == 2


def test_what_the_server_reports(scan: Path, tmp_path: Path) -> None:
    with server() as port:
        path = write_chain(tmp_path, port)
        path.write_text(path.read_text().replace(">grappa<", ">grapa<"))
        with pytest.raises(PeerReported, match="known are"):
            try_chain(path, scan, tmp_path / "images.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["chain.xml"]


def test_nobody_listens(scan: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PeerGone, match="scanside serve"):
        try_chain(write_chain(tmp_path, port), scan, tmp_path / "images.h5")


@pytest.mark.parametrize(
    ("xml", "error", "says"),
    [
        (chain("buckets", "connect"), ConfigError, "NoiseAdjustGadget"),
        (chain("acquisitions", "execute"), ConfigError, "<connect>"),
        ("<configuration><version>1</version><stream/></configuration>", FileFormatError, "version"),
        ("<configuration>", FileFormatError, "well-formed"),
    ],
)
def test_chains_that_need_gadgetron(
    scan: Path, tmp_path: Path, xml: str, error: type[ScansideError], says: str
) -> None:
    (tmp_path / "chain.xml").write_text(xml)
    with pytest.raises(error, match=says):
        try_chain(tmp_path / "chain.xml", scan, tmp_path / "images.h5")
