"""The chains: what Gadgetron needs to read them, and what the node makes of their configurations."""

from __future__ import annotations

import lzma
import socket
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from scanside.context import Context
from scanside.errors import ConfigError, PipelineError, StageConfigError
from scanside.mrd.messages import Close, ConfigText, HeaderXml, ImageArray, ImageMessage, Message
from scanside.mrd.reader import MessageReader, decode
from scanside.mrd.session import Opening, ServerSession
from scanside.mrd.streams import MemoryStream, SocketStream
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline
from scanside.serving import PipelinePool, Request
from scanside_deploy.chains import HOWS, PLACES, How, Place, chain
from scanside_gadgetron.node import run_node

CHAINS = Path(__file__).resolve().parents[2] / "deploy" / "chains"
PATHS = sorted(CHAINS.glob("*.xml"))

GIVES = {
    "AcquisitionReader": "acquisitions",
    "NoiseAdjustGadget": "acquisitions",
    "AsymmetricEchoAdjustROGadget": "acquisitions",
    "RemoveROOversamplingGadget": "acquisitions",
    "AcquisitionAccumulateTriggerGadget": "buckets",
    "BucketToBufferGadget": "recon_data",
    "GenericReconCartesianReferencePrepGadget": "recon_data",
    "GenericReconCartesianGrappaGadget": "image_array",
    "GenericReconImageArrayScalingGadget": "image_array",
    "ImageArraySplitGadget": "images",
    "ComplexToFloatGadget": "images",
    "FloatToUShortGadget": "images",
}
"""What comes out of the gadgets that the chains use, as Gadgetron 4.7 declares them."""

TAKES = {
    "NoiseAdjustGadget": "acquisitions",
    "AsymmetricEchoAdjustROGadget": "acquisitions",
    "RemoveROOversamplingGadget": "acquisitions",
    "AcquisitionAccumulateTriggerGadget": "acquisitions",
    "BucketToBufferGadget": "buckets",
    "GenericReconCartesianReferencePrepGadget": "recon_data",
    "GenericReconCartesianGrappaGadget": "recon_data",
    "GenericReconImageArrayScalingGadget": "image_array",
    "ImageArraySplitGadget": "image_array",
    "ComplexToFloatGadget": "images",
    "FloatToUShortGadget": "images",
}

PROPERTIES = {
    "AcquisitionAccumulateTriggerGadget": {"trigger_dimension", "sorting_dimension"},
    "BucketToBufferGadget": {"N_dimension", "S_dimension", "split_slices", "ignore_segment"},
    "GenericReconCartesianReferencePrepGadget": {
        "average_all_ref_N",
        "average_all_ref_S",
        "prepare_ref_always",
    },
    "GenericReconCartesianGrappaGadget": {"coil_map_algorithm"},
    "GenericReconImageArrayScalingGadget": {"use_constant_scalingFactor", "scalingFactor"},
    "FloatToUShortGadget": {"max_intensity", "min_intensity", "intensity_offset"},
}


def read(path: Path) -> Element:
    return ElementTree.fromstring(path.read_bytes())


def only(element: Element, path: str) -> Element:
    found = element.findall(path)
    assert len(found) == 1, f"{path}: {len(found)}"
    return found[0]


def printed(path: Path) -> bytes:
    """The node's configuration as Gadgetron prints it."""
    element = only(read(path), "stream/external/configuration")
    return b'<?xml version="1.0"?>\n' + ElementTree.tostring(element) + b"\n"


def request(path: Path) -> Request:
    opening = ServerSession(MemoryStream(encode(ConfigText(printed(path)), HeaderXml(b"<h/>")))).open()
    assert isinstance(opening, Opening)
    return Request.of(opening)


def test_one_chain_for_each_place_and_form() -> None:
    assert {path.name for path in PATHS} == {
        f"{place}.{form}.xml" for place in PLACES for form in ("execute", "connect")
    }


@pytest.mark.torch_free
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
class TestEveryChain:
    def test_is_in_the_format_that_knows_external_nodes(self, path: Path) -> None:
        chain = read(path)
        assert chain.tag == "configuration"
        assert only(chain, "version").text == "2"
        assert [child.tag for child in chain] == ["version", "readers", "writers", "stream"]
        for kind, names in (("reader", ["AcquisitionReader", "WaveformReader"]), ("writer", ["ImageWriter"])):
            assert [one.findtext("classname") for one in chain.findall(f"{kind}s/{kind}")] == names
            assert {one.findtext("dll") for one in chain.iter(kind)} == {f"gadgetron_core_{kind}s"}

    def test_starts_or_finds_the_node(self, path: Path) -> None:
        external = only(read(path), "stream/external")
        action, configuration = external
        assert configuration.tag == "configuration"
        if ".execute." in path.name:
            assert action.tag == "execute"
            assert action.attrib == {"name": "scanside_gadgetron", "target": "reconstruct", "type": "python"}
        else:
            assert action.tag == "connect"
            # Gadgetron itself listens on 9002.
            assert action.attrib == {"address": "localhost", "port": "18000"}

    def test_gadgets_fit_one_another_and_the_place(self, path: Path) -> None:
        place = path.name.split(".")[0]
        flowing = "acquisitions"
        for node in only(read(path), "stream"):
            if node.tag == "external":
                assert flowing == place
                if request(path).output is None:
                    flowing = "images"
                continue
            name = node.findtext("classname") or ""
            assert node.findtext("dll") == "gadgetron_mricore"
            assert TAKES[name] == flowing, name
            flowing = GIVES[name]
            own = {one.get("name") for one in node.findall("property")}
            assert own <= PROPERTIES.get(name, set())
            assert all(one.get("value") for one in node.findall("property"))
        assert flowing == "images"

    def test_configuration_is_understood(self, path: Path) -> None:
        found = request(path)
        assert found.pipeline == "grappa"
        assert found.peer == "gadgetron"
        assert found.output == ("image_array" if path.name.startswith("image_array") else None)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("place", PLACES)
def test_files_are_what_is_written(place: Place, how: How) -> None:
    assert (CHAINS / f"{place}.{how}.xml").read_text("utf-8") == chain(place, how)


class TestChain:
    def written(self, place: Place, how: How, *arguments: Any, **options: Any) -> Element:
        return ElementTree.fromstring(chain(place, how, *arguments, **options))

    def test_pipeline_settings_and_server(self) -> None:
        settings = {"engine.deadline_ms": "500", "finish.kind": "phase"}
        written = self.written("images", "connect", "student", settings, address="xn--ra-fka", port=19000)
        external = only(written, "stream/external")
        assert external[0].attrib == {"address": "xn--ra-fka", "port": "19000"}
        configuration = external[1]
        assert configuration.findtext("pipeline") == "student"
        # What was asked for stands; what the place asks for is not added to it.
        found = {one.get("name"): one.get("value") for one in configuration.findall("property")}
        assert found == settings

    def test_place_asks_only_for_stages_that_there_are(self, tmp_path: Path) -> None:
        own = tmp_path / "own.yaml"
        own.write_text("{name: own, stages: [accumulate, fourier, finish]}")
        assert (
            only(self.written("buckets", "connect", own), "stream/external/configuration/pipeline").text
            == "own"
        )
        assert "noise" not in chain("buckets", "connect", own)

    def test_executed_node_finds_a_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a & b.yml").write_text("{name: own, stages: [accumulate, fourier, finish]}")
        monkeypatch.chdir(tmp_path)
        written = self.written("acquisitions", "execute", "a & b.yml")
        assert only(written, "stream/external/configuration/pipeline").text == str(tmp_path / "a & b.yml")
        with pytest.raises(PipelineError, match=r"NAME\.yaml"):
            chain("acquisitions", "connect", "a & b.yml")

    @pytest.mark.parametrize(
        ("arguments", "error", "says"),
        [
            (("readouts", "connect"), ConfigError, "acquisitions, buckets"),
            (("images", "exec"), ConfigError, "execute or connect"),
            (("images", "connect", "grapa"), PipelineError, "known are"),
            (("images", "connect", "grappa", {"engine.deadline_ms": "1"}), StageConfigError, "grappa"),
            (("images", "connect", "grappa", {"finish.kind": "colour"}), StageConfigError, "magnitude"),
        ],
    )
    def test_what_would_fail_at_the_scanner_fails_here(
        self, arguments: Any, error: type[Exception], says: str
    ) -> None:
        with pytest.raises(error, match=says):
            chain(*arguments)

    def test_port(self) -> None:
        with pytest.raises(ConfigError, match="65535"):
            chain("images", "connect", port=0)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_settings_exist(path: Path) -> None:
    found = request(path)
    assert found.pipeline is not None
    Pipeline.load(found.pipeline, found.settings)


@pytest.mark.parametrize("place", PLACES)
def test_forms_differ_in_nothing_but_how_the_node_is_reached(place: str) -> None:
    texts = []
    for form in ("execute", "connect"):
        chain = read(CHAINS / f"{place}.{form}.xml")
        external = only(chain, "stream/external")
        external.remove(external[0])
        texts.append(ElementTree.tostring(chain))
    assert texts[0] == texts[1]


CAPTURES = {
    "acquisitions": "waveforms.acquisitions",
    "buckets": "waveforms.bucket",
    "recon_data": "waveforms.recon_data",
    "image_array": "waveforms.image_array",
    "images": "waveforms.image",
}


def through_node(config: bytes, capture: Path) -> list[Message]:
    """What Gadgetron sent to a node at a place, and what the node answers under a configuration."""
    connection_module = pytest.importorskip("gadgetron.external.connection")
    messages = decode(lzma.decompress(capture.read_bytes()))
    header = next(one for one in messages if isinstance(one, HeaderXml))
    data = [one for one in messages if not isinstance(one, ConfigText | HeaderXml | Close)]
    ours, theirs = socket.socketpair()

    def run() -> None:
        with connection_module.Connection(theirs) as connection:
            run_node(connection, PipelinePool(Context("cpu")))

    node = threading.Thread(target=run, daemon=True)
    node.start()
    sent = encode(ConfigText(config), header, *data, Close())
    sender = threading.Thread(target=ours.sendall, args=(sent,), daemon=True)
    sender.start()
    stream = SocketStream(ours, timeout=300)
    reader = MessageReader(stream)
    answers = []
    while not isinstance(message := reader.read(), Close):
        answers.append(message)
    node.join(300)
    sender.join(300)
    stream.close()
    assert not node.is_alive()
    return answers


@pytest.mark.parametrize("place", PLACES)
def test_recorded_stream_of_each_place(shared_data: Path, place: str) -> None:
    # All were recorded from the same scan; Gadgetron's own images of it, combined by root sum of squares, are the
    # measure.
    captures = shared_data / "gadgetron-captures"
    config = printed(CHAINS / f"{place}.execute.xml").replace(
        b"</pipeline>", b'</pipeline><property name="fourier.combine" value="rss" />'
    )
    answers = through_node(config, captures / f"{CAPTURES[place]}.bin.xz")
    arrays = decode(lzma.decompress((captures / "waveforms.image_array.bin.xz").read_bytes()))
    expected = [one.data[0, 0, 0, 0, 0] for one in arrays if isinstance(one, ImageArray)]
    kind = ImageArray if place == "image_array" else ImageMessage
    images = [one for one in answers if isinstance(one, kind)]
    assert len(images) == len(expected) == 4
    for image, wanted in zip(images, expected, strict=True):
        voxels = image.data.reshape(wanted.shape)
        if place in ("image_array", "images"):
            np.testing.assert_array_equal(voxels, wanted)
        else:
            np.testing.assert_allclose(voxels, np.abs(wanted), rtol=1e-5, atol=1e-5)


def test_recorded_calibration_leads_to_gadgetrons_image(shared_data: Path) -> None:
    # The Skyra scan as recon data with GRAPPA reference, against Gadgetron's own image array of it.
    captures = shared_data / "gadgetron-captures"
    config = printed(CHAINS / "recon_data.execute.xml")
    (image,) = through_node(config, captures / "grappa.recon_data_with_reference.bin.xz")
    assert isinstance(image, ImageMessage)
    recorded = decode(lzma.decompress((captures / "grappa.image_array.bin.xz").read_bytes()))
    (array,) = [one for one in recorded if isinstance(one, ImageArray)]
    a, b = np.abs(image.data[0, 0]), np.abs(array.data[0, 0, 0, 0, 0])
    scale = (a * b).sum() / (a * a).sum()
    assert np.linalg.norm(scale * a - b) / np.linalg.norm(b) < 0.015
    for name in ("position", "read_dir", "phase_dir", "slice_dir", "field_of_view", "matrix_size"):
        np.testing.assert_allclose(image.header[name], array.headers[0, 0, 0][name], atol=1e-4)
