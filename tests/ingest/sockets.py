"""HTTP by hand, for what no client library would send."""

import contextlib
import http.client
import socket
from collections.abc import Iterable
from typing import Any, Self

from tests.harness import Answer, Project, Service

TIMEOUT_SECONDS = 20


class Connection:
    """One connection, on which requests are written as they are given."""

    def __init__(self, service: Service) -> None:
        self.socket = socket.create_connection(("127.0.0.1", service.port), TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def write(
        self, project: Project | None, headers: dict[str, str], start: str = "POST /v1/events"
    ) -> None:
        """A request's head."""
        lines = [f"{start} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if "Host" not in headers:
            lines.append("Host: localhost")
        if project is not None:
            lines.append(f"X-API-Key: {project.ingest_key}")
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send(self, data: bytes) -> None:
        """Bytes; a server that has answered and gone needs no more of them."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def send_chunks(self, chunks: Iterable[bytes]) -> None:
        """A body in the chunked coding, as far as the server listens."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for chunk in chunks:
                self.socket.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.socket.sendall(b"0\r\n\r\n")

    def answer(self) -> Answer:
        """The next answer on this connection."""
        with contextlib.closing(http.client.HTTPResponse(self.socket)) as response:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            content = response.read()
            return Answer(response.status, headers, content.decode(), content)

    def answer_if_any(self) -> Answer | None:
        """The next answer, None where the server hangs up without a word."""
        with contextlib.suppress(http.client.HTTPException, OSError):
            return self.answer()
        return None
