"""Connections to collectors: to addresses that were checked, and with one deadline for everything.

A name is asked for its addresses once a connection, all of them are checked, and the connection is
made to one of those: between the check and the use no other answer can slip in (DNS rebinding).
"""

import contextlib
import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from ingest.forwarding.networks import NOT_PUBLIC, is_public

MOST_BYTES = 64 * 1024  # of an answer
# What may go wrong between here and a collector, in it too. UnicodeError: of names.
FAULTS = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError, UnicodeError)

_Found: TypeAlias = list[tuple[Any, ...]]


class ForbiddenAddress(OSError):
    """A name, or an address, that leads where a project's own destination may not be."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a connection leads to, and whether any address will do."""

    scheme: str
    host: str
    port: int
    is_trusted: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None  # the beginning of a long one; None where it was cut, or came too slowly


def left(until: float) -> float:
    """The seconds left until a moment of the monotonic clock. Raises TimeoutError."""
    seconds = until - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _Timed(socket.socket):
    """Waits no longer than until its deadline, in however small pieces it is fed.

    A socket's own timeout counts from each read anew: a byte from time to time would hold it.
    """

    until = 0.0

    def recv_into(self, *args: Any) -> int:
        self.settimeout(left(self.until))
        return super().recv_into(*args)

    def sendall(self, *args: Any) -> None:
        self.settimeout(left(self.until))
        super().sendall(*args)


class _TimedTls(ssl.SSLSocket):
    """The same of TLS, which sends piece by piece."""

    until = 0.0

    def recv_into(self, *args: Any) -> int:
        self.settimeout(left(self.until))
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        self.settimeout(left(self.until))
        return super().send(*args)


class Connection(HTTPConnection):
    """A connection to a place, made when it is needed and kept open for as long as it lasts."""

    is_trusted = False
    _until = 0.0

    def exchange(self, path: str, body: bytes, headers: Mapping[str, str], until: float) -> Reply:
        """POST, and the answer. Raises one of FAULTS where there is none before `until`."""
        self._until = until
        if not self.is_connected:
            self.close()
            self.connect()
        self.sock.until = until  # type: ignore[union-attr]
        # Who has heard enough may answer and hang up.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.request("POST", path, body, headers, preload_content=False)
        response = self.getresponse()
        with contextlib.closing(response):
            return Reply(response.status, response.headers, self._read(response))

    def _read(self, response: urllib3.HTTPResponse) -> bytes | None:
        """The body; the connection is kept only where that was all of it."""
        body: bytes | None
        try:
            body = response.read(MOST_BYTES, decode_content=False)
            if len(body) < MOST_BYTES and not response.closed:
                response.read(1)  # raises where there should have been more
        except FAULTS:
            body = None
        if body is None or not response.closed:
            self.close()
        return body

    def _new_conn(self) -> socket.socket:
        """A socket that is connected to one of the host's addresses."""
        found = _addresses(self._dns_host, self.port, self._until)
        if not self.is_trusted and not all(_is_public(address) for *_, address in found):
            raise ForbiddenAddress(NOT_PUBLIC)
        error: OSError = OSError("the name has no address")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            try:
                # One that is silent leaves time for the others.
                share = left(self._until) / (len(found) - number)
                return self._connected(_Timed(family, kind, protocol), address, share)
            except OSError as failed:
                error = failed
        raise error

    def _connected(self, new: socket.socket, address: Any, seconds: float) -> socket.socket:
        try:
            new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            new.settimeout(seconds)
            new.connect(address)
            new.settimeout(left(self._until))  # for all of TLS' handshake
        except OSError:
            new.close()
            raise
        return new


class SecureConnection(Connection, HTTPSConnection):
    """The same with TLS, which the collector's certificate is verified for."""


def connection_to(origin: Origin) -> Connection:
    """A connection that is not made yet."""
    if origin.scheme == "https":
        connection: Connection = SecureConnection(origin.host, origin.port, ssl_context=tls())
    else:
        connection = Connection(origin.host, origin.port)
    connection.is_trusted = origin.is_trusted
    return connection


@cache
def tls() -> ssl.SSLContext:
    """The system's certificates (SSL_CERT_FILE names others), read once a process."""
    context = ssl.create_default_context()
    context.sslsocket_class = _TimedTls
    return context


def _addresses(host: str, port: int, until: float) -> _Found:
    """What the system finds for a name: it can't be told when to give up, but be left."""
    found: queue.SimpleQueue[_Found | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=ask, name="resolver", daemon=True).start()
    try:
        answer = found.get(timeout=left(until))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_public(address: tuple[Any, ...]) -> bool:
    return is_public(ipaddress.ip_address(address[0]))
