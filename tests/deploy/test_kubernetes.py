"""Kubernetes: every object fits the schema of its kind, and the objects fit one another and the server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scanside.errors import ConfigError
from scanside_gadgetron.settings import ServerConfig

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.33")
"""Of Kubernetes."""

Object = dict[str, Any]


def documents(text: str) -> list[Object]:
    return [one for one in yaml.safe_load_all(text) if one]


def plain() -> dict[str, Object]:
    """The objects of the base as they are in their files, by kind."""
    listed = documents((FOLDER / "base" / "kustomization.yaml").read_text("utf-8"))[0]["resources"]
    found = [one for name in listed for one in documents((FOLDER / "base" / name).read_text("utf-8"))]
    return {one["kind"]: one for one in found}


def built(kustomization: str) -> dict[str, Object]:
    kubectl = shutil.which("kubectl") or shutil.which("kustomize")
    if kubectl is None:
        pytest.skip("neither kubectl nor kustomize is installed")
    command = [kubectl, "kustomize" if kubectl.endswith("kubectl") else "build", kustomization]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return {one["kind"]: one for one in documents(run.stdout)}


def check(objects: Iterator[Object]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="has Kubernetes' schemas")
    for one in objects:
        for version in VERSIONS:
            validator.validate(one, version, strict=True)


def container(objects: dict[str, Object]) -> Object:
    (only,) = objects["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def test_schema() -> None:
    check(iter(plain().values()))


def test_validator_bites() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="has Kubernetes' schemas")
    service = plain()["Service"]
    service["spec"]["port"] = []
    with pytest.raises(validator.ValidationError):
        validator.validate(service, VERSIONS[0], strict=True)


@pytest.mark.parametrize("variant", ["base", "gpu"])
def test_variants(variant: str) -> None:
    objects = built(str(FOLDER / variant))
    check(iter(objects.values()))
    assert set(objects) == {"StatefulSet", "Service", "NetworkPolicy"}
    if variant == "base":
        assert objects == plain()
        return
    pod = container(objects)
    assert pod["image"] == "scanside:cuda"
    # Extended resources cannot be overcommitted: what is asked for and the limit are the same.
    assert (
        pod["resources"]["limits"]["nvidia.com/gpu"] == pod["resources"]["requests"]["nvidia.com/gpu"] == "1"
    )
    assert pod["resources"]["requests"]["cpu"] == container(plain())["resources"]["requests"]["cpu"]


def test_metrics_component(tmp_path: Path) -> None:
    # kustomize takes relative paths only, and nothing above its root unless it is a root itself.
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    own = tmp_path / "own"
    own.mkdir()
    (own / "kustomization.yaml").write_text(
        "resources: [../kubernetes/base]\ncomponents: [../kubernetes/prometheus-operator]\n"
    )
    objects = built(str(own))
    endpoint = objects["ServiceMonitor"]["spec"]["endpoints"][0]
    service = objects["Service"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    secret = objects["StatefulSet"]["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"]
    assert endpoint["authorization"]["credentials"]["name"] == secret


def test_selectors_find_the_pods() -> None:
    objects = plain()
    labels = objects["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert objects["StatefulSet"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["StatefulSet"]["spec"]["serviceName"] == objects["Service"]["metadata"]["name"]
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    named = {port["name"]: port["containerPort"] for port in container(objects)["ports"]}
    for port in objects["Service"]["spec"]["ports"]:
        assert named[port["targetPort"]] == port["port"]
    for rule in objects["NetworkPolicy"]["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= set(named)


def test_probes_and_ports_are_the_servers(tmp_path: Path) -> None:
    text = (FOLDER / "server.yaml").read_text("utf-8")
    # As it stands it must not start: everyone would know the token.
    with pytest.raises(ConfigError, match="token"):
        ServerConfig.load(FOLDER / "server.yaml")
    (tmp_path / "server.yaml").write_text(text.replace('token: ""', "token: 0123456789abcdefghij"))
    config = ServerConfig.load(tmp_path / "server.yaml")
    assert config.monitor is not None
    pod = container(plain())
    assert {port["name"]: port["containerPort"] for port in pod["ports"]} == {
        "mrd": config.port,
        "monitor": config.monitor.port,
    }
    probes = {kind: pod[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    assert {probe["port"] for probe in probes.values()} == {"monitor"}
    grace = plain()["StatefulSet"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > config.grace_seconds


def test_pod_can_do_no_more_than_it_must() -> None:
    pod = plain()["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1000
    assert pod["automountServiceAccountToken"] is False
    context = container(plain())["securityContext"]
    assert context == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # Whatever is written has a volume.
    mounted = {one["mountPath"] for one in container(plain())["volumeMounts"]}
    assert {"/tmp", "/var/lib/scanside", "/dev/shm"} <= mounted
    volumes = {one["name"] for one in pod["volumes"]} | {
        one["metadata"]["name"] for one in plain()["StatefulSet"]["spec"]["volumeClaimTemplates"]
    }
    assert {one["name"] for one in container(plain())["volumeMounts"]} == volumes
