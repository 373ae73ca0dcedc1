"""Encrypted connections.

The worker does the handshake itself, on the bare socket that the server passed to it: so the server never carries a
scan's bytes, and a worker that dies takes the connection's keys with it.
"""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress

from scanside.errors import ConfigError, PeerGone, StreamError
from scanside.mrd.streams import BytesLike, SocketStream
from scanside_gadgetron.settings import TlsConfig

__all__ = ["TlsStream", "tls_context"]

_PIECE = 256 << 10


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """What connections are encrypted with.

    Raises:
        ConfigError: certificate or key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.certificate, config.key)
        if config.client_ca is not None:
            context.load_verify_locations(config.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # which ssl.SSLError is
        raise ConfigError(
            f"certificate {config.certificate}, its key or the authority of its hosts cannot be used: {error}; "
            "expected PEM files, the key without a password"
        ) from error
    return context


class TlsStream:
    """The server's end of an encrypted connection.

    One thread may receive while another sends: OpenSSL's state is touched under a lock, but nobody waits for the
    network while holding it.

    Args:
        stream: the bare connection.
        context: see `tls_context`.
        deadline: value of `time.monotonic` until which the connection has to be encrypted, or None for the stream's
            own limit.

    Raises:
        StreamError: the peer and this side do not agree on how to encrypt, or the peer may not connect.
        PeerGone: the connection broke, or (PeerSilent) nothing came in time.
    """

    def __init__(self, stream: SocketStream, context: ssl.SSLContext, deadline: float | None = None) -> None:
        self._stream = stream
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_side=True)
        self._state, self._order = threading.Lock(), threading.Lock()
        self._piece = memoryview(bytearray(_PIECE))
        while not self._handshake(deadline):
            pass

    def _handshake(self, deadline: float | None) -> bool:
        """Make a step; whether it was the last."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush(deadline)
            if not self._fetch(deadline):
                raise PeerGone("the peer left before the connection was encrypted") from None
            return False
        except ssl.SSLError as error:
            with suppress(StreamError):
                self._flush(deadline)  # the alert says why
            raise StreamError(
                f"the connection could not be encrypted: {error}; this server takes TLS connections only"
            ) from error
        self._flush(deadline)
        return True

    def _fetch(self, deadline: float | None) -> bool:
        """Wait for bytes; False at the end of the connection."""
        n = self._stream.receive_into(self._piece, deadline)
        self._came.write(self._piece[:n])
        return n > 0

    def _flush(self, deadline: float | None) -> None:
        """Send what has been encrypted, in the order in which it was."""
        if not self._goes.pending:
            return
        with self._order:
            with self._state:
                data = self._goes.read()
            self._stream.send(data, deadline=deadline)

    def receive_into(self, buffer: memoryview, deadline: float | None = None) -> int:
        """See `ByteStream.receive_into`.

        Raises:
            PeerGone: also where the connection ended without the peer having said so, as by someone between.
        """
        while True:
            with self._state:
                try:
                    return self._tls.read(len(buffer), buffer)  # type: ignore[return-value]
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return 0
                except ssl.SSLError as error:
                    raise PeerGone(f"the encrypted connection broke while receiving: {error}") from error
            self._flush(deadline)
            if not self._fetch(deadline):
                raise PeerGone("the encrypted connection was cut off")

    def send(self, *buffers: BytesLike, deadline: float | None = None) -> None:
        """See `ByteStream.send`."""
        for buffer in buffers:
            rest = memoryview(buffer).cast("B") if memoryview(buffer).nbytes else memoryview(b"")
            while rest:
                # Encrypting and sending under one lock keeps the order; a piece at a time keeps memory small.
                with self._order:
                    with self._state:
                        n = self._tls.write(rest[:_PIECE])
                        data = self._goes.read()
                    self._stream.send(data, deadline=deadline)
                rest = rest[n:]

    def end_writing(self) -> None:
        """See `ByteStream.end_writing`."""
        with suppress(StreamError, ssl.SSLError), self._order:
            with self._state:
                with suppress(ssl.SSLWantReadError):
                    self._tls.unwrap()
                data = self._goes.read()
            self._stream.send(data)
        self._stream.end_writing()

    def shutdown(self) -> None:
        """See `ByteStream.shutdown`."""
        self._stream.shutdown()

    def reset(self) -> None:
        """See `ByteStream.reset`."""
        self._stream.reset()

    def broken(self) -> bool:
        """See `ByteStream.broken`."""
        return self._stream.broken()

    def close(self) -> None:
        """See `ByteStream.close`."""
        self._stream.close()
