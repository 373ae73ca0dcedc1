"""Where a server listens, and whom it lets in."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from scanside.errors import ConfigError
from scanside.mrd.streams import SocketStream
from scanside_gadgetron.pool import listen
from scanside_gadgetron.settings import ServerConfig

pytestmark = pytest.mark.torch_free

OpenHouse = Callable[..., AbstractContextManager[Any]]


def close(listeners: list[socket.socket]) -> None:
    for one in listeners:
        one.close()


def test_name_is_listened_on_in_all_its_families(house: OpenHouse) -> None:
    with house(host="localhost") as one:
        addresses = one.server.addresses
        assert {port for _, port in addresses} == {one.server.port}
        known = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
        assert {host for host, _ in addresses} <= known
        for address in addresses:
            stream = SocketStream(socket.create_connection(address), timeout=300)
            assert one.is_whole(one.play(stream=stream))


def test_both_families_where_there_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        pytest.skip(f"this machine has no IPv6 loopback: {error}")
    kind = socket.SOCK_STREAM
    both = [(socket.AF_INET6, kind, 6, "", ("::1", 0, 0, 0)), (socket.AF_INET, kind, 6, "", ("127.0.0.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    listeners = listen.listen("localhost", 0)
    names = [one.getsockname()[:2] for one in listeners]
    assert [host for host, _ in names] == ["::1", "127.0.0.1"]
    assert len({port for _, port in names}) == 1
    close(listeners)


def test_host_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.invalid"):
        listen.listen("nowhere.invalid", 0)


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("192.168.2.77", True),
        ("192.168.3.77", False),
        ("::ffff:192.168.2.5", True),
        ("::ffff:192.168.3.5", False),
        ("fe80::1%eth0", True),
        ("2001:db8::1", False),
    ],
)
def test_allowed_hosts(host: str, inside: bool) -> None:
    networks = [ipaddress.ip_network("192.168.2.0/24"), ipaddress.ip_network("fe80::/10")]
    assert (host in listen.Allowed(networks)) is inside


def test_other_addresses_need_a_list() -> None:
    for host in ("0.0.0.0", "::", "192.168.2.1", "scanner"):
        with pytest.raises(ConfigError, match="say which may"):
            ServerConfig.load(host=host)
        ServerConfig.load(host=host, allow=["192.168.2.0/24"])
    for host in ("127.0.0.1", "::1", "localhost"):
        ServerConfig.load(host=host)


def test_host_that_may_not_connect(house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    with house() as one:
        monkeypatch.setattr(listen.Allowed, "__contains__", lambda self, host: False)
        # Cut off, with more or less of the connection made by then; in any case without a word.
        with suppress(ConnectionError), one.connect() as sock:
            assert sock.recv(1) == b""
        monkeypatch.undo()
        assert one.wait_for_event("session-refused").reason == "not-allowed"
        assert one.of_kind("session-started") == []


# The socket for nodes


def test_place_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    found = listen.listen_for_nodes(None)
    assert found is not None
    sock, path = found
    assert path == tmp_path / "scanside" / "pool.sock" == listen.places()[0]
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="another server listens"):
        listen.listen_for_nodes(path)
    sock.close()
    # What a server left behind that died is taken over.
    again, _ = listen.listen_for_nodes(path) or (None, None)
    assert again is not None
    again.close()


def test_folder_that_others_can_enter_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(listen.tempfile, "gettempdir", lambda: str(tmp_path))
    for folder in (tmp_path / "scanside", tmp_path / f"scanside-{os.getuid()}"):
        folder.mkdir()
        folder.chmod(0o777)
    assert listen.listen_for_nodes(None) is None
    with pytest.raises(ConfigError, match="name another place"):
        listen.listen_for_nodes(tmp_path / ("x" * 200))
