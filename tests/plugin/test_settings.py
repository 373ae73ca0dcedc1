"""What the server's settings tell, and what they keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scanside.errors import ConfigError
from scanside_gadgetron.settings import ServerConfig

pytestmark = pytest.mark.torch_free


def config(**settings: Any) -> ServerConfig:
    return ServerConfig.load(**settings)


@pytest.mark.parametrize("token", ["hunter2", ["hunter2", "hunter2hunter2hunter2"], {"hunter2": 1}])
def test_error_shows_no_token(token: Any) -> None:
    with pytest.raises(ConfigError, match=r"monitor\.token") as raised:
        config(monitor={"token": token})
    assert "hunter2" not in str(raised.value)


def test_broken_file_shows_no_token(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "server.yaml"
    path.write_text(
        'port: 18000\nmonitor: {token: "hunter2hunter2, port: 9003}\nworkers: 1\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"server\.yaml cannot be read in line \d") as raised:
        ServerConfig.load(path)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "0.0.0.0/1"])
def test_everybody_is_remarked(network: str) -> None:
    (remark,) = config(host="0.0.0.0", allow=("192.168.2.0/24", network)).remarks()
    assert network in remark
    assert "every machine" in remark


def test_usual_networks_are_not() -> None:
    allow = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8", "129.187.0.0/16")
    assert config(host="0.0.0.0", allow=allow).remarks() == []
    assert config().remarks() == []


def test_key_that_everybody_can_read_is_remarked(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path in (certificate, key):
        path.touch(mode=0o600)
    tls = {"certificate": str(certificate), "key": str(key)}
    assert config(tls=tls).remarks() == []
    certificate.chmod(0o644)
    assert config(tls=tls).remarks() == []  # it is no secret
    (remark,) = config(tls={"certificate": str(certificate)}).remarks()  # unless the key lies in it
    assert str(certificate) in remark
    key.chmod(0o604)
    (remark,) = config(tls=tls).remarks()
    assert f"can read {key}: chmod 640" in remark


def test_token_in_clear_is_remarked() -> None:
    token = "correct-horse-battery"
    (remark,) = config(monitor={"host": "192.168.2.5", "token": token}).remarks()
    assert "unencrypted" in remark
    assert token not in remark
    assert config(monitor={"token": token}).remarks() == []
