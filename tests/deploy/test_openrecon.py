"""OpenRecon: the label that a scanner reads, and the session that it then has with the image's server."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from scanside.context import Context
from scanside.convert import items_of
from scanside.errors import ConfigError, StageConfigError
from scanside.items import Image
from scanside.mrd.messages import Close, ConfigFile, HeaderXml, ImageMessage, Text
from scanside.mrd.reader import decode
from scanside.mrd.streams import MemoryStream
from scanside.mrd.writer import encode
from scanside.pipeline import Pipeline, pipeline_names
from scanside.serving import PipelinePool, serve_stream
from scanside.serving.parameters import HostParameters
from scanside.simulate import ScanConfig, simulate
from scanside_deploy.openrecon import (
    LABEL,
    START,
    Label,
    Shown,
    label_of,
    parameter_of,
    shown_by_default,
    write_context,
)
from scanside_gadgetron.settings import ServerConfig

SCHEMA = json.loads(Path(__file__).with_name("openrecon_schema.json").read_text("utf-8"))


def check(label: object) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator(SCHEMA).validate(label)


@pytest.mark.parametrize("pipeline", pipeline_names())
def test_labels_of_the_shipped_pipelines(pipeline: str, tmp_path: Path) -> None:
    write_context(tmp_path, pipeline, shown_by_default(Pipeline.load(pipeline)), vendor="Clinic", gpu=True)
    label = json.loads((tmp_path / "OpenReconLabel.json").read_text("utf-8"))
    check(label)
    assert label["parameters"][0]["id"] == "config"
    # Settings inside two branches are not for a scanner's page.
    assert (len(label["parameters"]) > 1) is (pipeline not in ("student-shadow", "unrolled-both"))
    assert label["reconstruction"]["content_qualification_type"] == "RESEARCH"
    # What the image carries is the same.
    found = re.search(rf'^LABEL "{re.escape(LABEL)}"="([^"]+)"$', (tmp_path / "Dockerfile").read_text(), re.M)
    assert found is not None
    assert json.loads(base64.b64decode(found[1])) == label


def test_schema_bites() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    label = json.loads(label_of(Pipeline.load("fft"), [], name="x").to_json())
    check(label)
    label["parameters"] = [
        {"type": "int", "id": "a_b", "label": {"en": "x"}, "minimum": 0, "maximum": 1, "default": 0}
    ]
    with pytest.raises(jsonschema.ValidationError):
        check(label)


class TestParameter:
    def shown(self, text: str, pipeline: str = "student") -> dict[str, Any]:
        return parameter_of(Pipeline.load(pipeline), Shown.parse(text)).model_dump(exclude_none=True)

    def test_box(self) -> None:
        found = self.shown("noise.enabled")
        assert (found["id"], found["type"], found["default"]) == ("noiseEnabled", "boolean", True)

    def test_choice(self) -> None:
        found = self.shown("engine.fitness")
        assert (found["type"], found["default"]) == ("choice", "warn")
        assert [value["id"] for value in found["values"]] == ["fallback", "ignore", "warn"]

    def test_choice_of_what_is_possible(self, tmp_path: Path) -> None:
        # Images of integers cannot be complex.
        label = write_context(tmp_path, "grappa", [Shown(setting="finish.kind")])
        values = label.model_dump()["parameters"][1]["values"]
        assert {value["id"] for value in values} == {"magnitude", "phase", "real", "imag"}

    def test_whole_number(self) -> None:
        found = self.shown("engine.consistency_iterations=1:50")
        assert found["type"] == "int"
        assert (found["minimum"], found["default"], found["maximum"]) == (1, 8, 50)
        assert isinstance(found["maximum"], int)

    def test_number(self) -> None:
        found = self.shown("engine.deadline_ms=50:5000:500[ms]")
        assert (found["type"], found["unit"]) == ("double", {"en": "ms"})
        assert (found["minimum"], found["default"], found["maximum"]) == (50, 500, 5000)

    def test_bounds_of_the_setting(self) -> None:
        found = self.shown("finish.largest")
        assert (found["minimum"], found["default"], found["maximum"]) == (1, 65535, 65535)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("engine.deadline", "engine.deadline_ms"),
            ("engine.deadline_ms", "LEAST:MOST:DEFAULT"),
            ("engine.deadline_ms=50:5000", "its default is not known"),
            ("engine.deadline_ms=50:5000:9000", "lie between"),
            ("engine.deadline_ms=50:5000:500.25", "multiple of 0.1"),
            ("engine.deadline_ms=50:5000:500[msec]", "at most 3"),
            ("engine.consistency_iterations=1:5:2.5", "integer"),
            ("engine.fallback", "cannot be shown"),
            ("engine", "expected stage.setting"),
            ("engine.deadline_ms=fast", "expected stage.setting"),
        ],
    )
    def test_what_the_scanner_would_not_show(self, text: str, says: str) -> None:
        with pytest.raises(ConfigError, match=re.escape(says)):
            self.shown(text)


class TestLabel:
    def test_too_many_parameters(self) -> None:
        shown = [Shown.parse(f"finish.factor={i}:99:50") for i in range(14)]  # the configuration is one more
        with pytest.raises(ConfigError, match="14"):
            label_of(Pipeline.load("fft"), shown, name="x")

    def test_default_configuration_is_in_the_first_choice(self) -> None:
        label = json.loads(label_of(Pipeline.load("fft"), [Shown(setting="finish.kind")], name="x").to_json())
        first = label["parameters"][0]
        assert (first["type"], first["id"], first["default"]) == ("choice", "config", "openrecon")
        assert [value["id"] for value in first["values"]] == ["openrecon"]
        # Which is what the server takes for its own.
        assert HostParameters.of({"parameters.config": first["default"]}).pipeline is None
        for broken in (
            label["parameters"][1:],
            [label["parameters"][1], first],
            [{**first, "id": "recon"}],
            [{**first, "default": "fft", "values": [{"id": "fft", "name": {"en": "fft"}}]}],
            [],
        ):
            with pytest.raises(ValidationError, match="first choice must be 'config'"):
                Label.model_validate({**label, "parameters": broken})
        with pytest.raises(ValidationError, match="none of the values"):
            Label.model_validate({**label, "parameters": [{**first, "default": "other"}]})

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("parameters", 1, "id"), "finish_kind"),
            (("parameters", 1, "values", 0, "id"), "view-sharing"),
            (("general", "id"), "my recon"),
            (("general", "name", "en"), "my recon"),
            (("general", "version"), "1.0"),
        ],
    )
    def test_ids_in_their_patterns(self, place: tuple[Any, ...], value: str) -> None:
        label = json.loads(label_of(Pipeline.load("fft"), [Shown(setting="finish.kind")], name="x").to_json())
        Label.model_validate(label)
        inner = label
        for part in place[:-1]:
            inner = inner[part]
        inner[place[-1]] = value
        with pytest.raises(ValidationError, match="pattern"):
            Label.model_validate(label)

    def test_twice_the_same(self) -> None:
        with pytest.raises(ConfigError, match="finishKind"):
            label_of(Pipeline.load("fft"), [Shown(setting="finish.kind")] * 2, name="x")

    def test_vendor(self) -> None:
        with pytest.raises(ConfigError, match="vendor"):
            label_of(Pipeline.load("fft"), [], name="x", vendor="My Clinic")


class TestContext:
    def test_settings_for_good(self, tmp_path: Path) -> None:
        write_context(tmp_path, "student", [], {"finish.series": "7"})
        ready = Pipeline.load(tmp_path / "pipeline.yaml")
        finish, engine = ready.stages[-1].config, ready.stages[-2].config
        assert (finish.series, finish.scaling, finish.largest) == (7, "scan", 4095)
        assert engine.backend == "eager"
        # All else is the shipped pipeline's.
        plain = Pipeline.load("student").stages[-2].config
        assert engine == plain.model_copy(update={"backend": "eager"})

    def test_complex_images(self, tmp_path: Path) -> None:
        label = write_context(tmp_path, "grappa", [], injector="compleximage")
        assert label.reconstruction.injector == "compleximage"
        config = Pipeline.load(tmp_path / "pipeline.yaml").stages[-1].config
        assert (config.kind, config.scaling) == ("complex", "none")

    def test_wrong_setting(self, tmp_path: Path) -> None:
        with pytest.raises(StageConfigError, match="finish"):
            write_context(tmp_path / "new", "grappa", [], {"finish.kin": "phase"})
        assert not (tmp_path / "new").exists()

    def test_server_and_package(self, tmp_path: Path) -> None:
        label = write_context(tmp_path, "fft", name="My recon", vendor="Clinic")
        config = ServerConfig.load(tmp_path / "server.yaml")
        assert config.port == label.reconstruction.port
        dockerfile = (tmp_path / "Dockerfile").read_text()
        assert f"COPY server.yaml {Path(config.pipeline).name} {Path(config.pipeline).parent}/" in dockerfile
        assert label.package == f"OpenRecon_Clinic_MyRecon_V{label.general.version}"
        # Their names must be what the label says.
        assert label.general.name.en == "MyRecon"
        script = (tmp_path / "package.sh").read_text()
        for name in ("package.sh", "start-fire.sh"):
            subprocess.run(["sh", "-n", str(tmp_path / name)], check=True)
            assert (tmp_path / name).stat().st_mode & 0o111 == 0o111
        assert f"openrecon_clinic_myrecon:v{label.general.version}" == label.image
        assert f"docker build --platform linux/amd64 -t {label.image} ." in script
        assert f"docker save -o image.tar {label.image}" in script

    def test_image_that_hosts_start(self, tmp_path: Path) -> None:
        write_context(tmp_path, "fft")
        lines = (tmp_path / "Dockerfile").read_text().splitlines()
        assert lines[0] == "FROM scanside:cpu"
        for line in ("USER root", "ENTRYPOINT []", "HEALTHCHECK NONE", f"COPY start-fire.sh /{START}"):
            assert line in lines
        command = next(json.loads(line[4:]) for line in lines if line.startswith("CMD "))
        assert command == ["scanside", "serve", "--config", "/etc/scanside/server.yaml"]

    def test_server_of_a_site_stays_as_it_is(self) -> None:
        text = (Path(__file__).parents[2] / "deploy" / "containers" / "Dockerfile").read_text()
        assert "USER 1000:1000" in text
        assert "USER root" not in text

    @pytest.mark.parametrize(
        "image", ["scanside:cuda", "site/scanside-cuda12.4", "nvidia/cuda:12.0-base", "x:CUDA-13"]
    )
    def test_newer_cuda(self, tmp_path: Path, image: str) -> None:
        with pytest.raises(ConfigError, match=r"CUDA 11\.8 at most"):
            write_context(tmp_path / "new", "fft", image=image)
        assert not (tmp_path / "new").exists()

    def test_older_cuda(self, tmp_path: Path) -> None:
        for image in ("site/scanside:cuda11.8", "nvidia/cuda:11.7-base", "site:cpu"):
            write_context(tmp_path, "fft", image=image)

    def test_fire_sends_what_the_page_would(self, tmp_path: Path) -> None:
        label = write_context(tmp_path, "student", shown_by_default(Pipeline.load("student")))
        sent = json.loads((tmp_path / "fire.json").read_text())["parameters"]
        assert list(sent) == [one.id for one in label.parameters]
        values = {f"parameters.{name}": value for name, value in sent.items()}
        assert HostParameters.of(values).settings(Pipeline.load(tmp_path / "pipeline.yaml")) == ({}, [])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> PipelinePool:
    folder = tmp_path_factory.mktemp("openrecon")
    write_context(folder, "grappa", [Shown(setting="finish.kind")])
    return PipelinePool(Context("cpu"), default=folder / "pipeline.yaml")


@pytest.fixture(scope="module")
def scan() -> Any:
    return simulate(
        ScanConfig.model_validate(
            yaml.safe_load(
                """
                phantom: {kind: shepp-logan, supersampling: [1, 1, 1]}
                coils: {n_coils: 4}
                sampling: {acceleration: [2, 1], acs: [12, 0]}
                geometry: {matrix: [32, 32, 1], n_slices: 2}
                """
            )
        )
    )


class TestSession:
    """What a scanner's session with the image gives."""

    def images(self, server: PipelinePool, scan: Any, **parameters: str) -> list[Image]:
        text = Text(json.dumps({"version": "1.1.0", "parameters": {"config": "openrecon", **parameters}}))
        stream = MemoryStream(
            encode(ConfigFile("openrecon"), HeaderXml(scan.header_xml), text, *scan.items(), Close())
        )
        outcome = serve_stream(stream, server)
        assert outcome.error is None
        came = [one for one in decode(bytes(stream.sent)) if isinstance(one, ImageMessage)]
        return [item for one in came for item in items_of(one, outcome.scan) if isinstance(item, Image)]

    def test_images_as_the_host_expects_them(self, server: PipelinePool, scan: Any) -> None:
        images = self.images(server, scan)
        assert len(images) == 2
        data = [np.asarray(image.data) for image in images]
        assert all(one.dtype == np.uint16 for one in data)
        # One scale for the whole scan, which fills the 12 bits once.
        assert max(int(one.max()) for one in data) == 4095
        assert len({image.meta.first("RescaleSlope") for image in images}) == 1
        for image in images:
            assert image.meta.first("DataRole") == "Image"
            assert image.meta.first("Keep_image_geometry") == "1"
            assert (image.meta.first("WindowCenter"), image.meta.first("WindowWidth")) == ("2048", "4096")
            for name, direction in (("ImageRowDir", "read_dir"), ("ImageColumnDir", "phase_dir")):
                np.testing.assert_allclose(
                    [float(value) for value in image.meta[name]], image.header[direction], atol=1e-6
                )

    def test_what_the_user_set(self, server: PipelinePool, scan: Any) -> None:
        plain, phase = self.images(server, scan), self.images(server, scan, finishKind="phase")
        assert {int(image.header["image_type"]) for image in plain} == {1}
        assert {int(image.header["image_type"]) for image in phase} == {2}


def test_every_parameter_of_a_label_is_understood(tmp_path: Path) -> None:
    label = write_context(tmp_path, "student", shown_by_default(Pipeline.load("student")))
    ready = Pipeline.load(tmp_path / "pipeline.yaml")
    defaults = {f"parameters.{one.id}": str(one.default) for one in label.parameters}
    # What the page shows at first is what the image is ready for.
    assert HostParameters.of(defaults).settings(ready) == ({}, [])
