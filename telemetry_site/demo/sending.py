"""The fleet's connections: each request sent once, at its time, and what it was answered."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from telemetry_site.demo.traffic import Sending

_CONNECTIONS = 8
_SECONDS = 20.0


@dataclass(frozen=True)
class Answered:
    """A request and its answer; status 0 where there was none."""

    sending: Sending
    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Credentials:
    """What the demo's project gives its clients."""

    key: str
    token: str

    def of(self, sending: Sending) -> tuple[dict[str, str], str]:
        """The headers and the query that a request shows."""
        shown = {
            "key": ({"X-API-Key": self.key}, ""),
            "token": ({"Authorization": f"Bearer {self.token}"}, ""),
            "url key": ({}, "?" + urlencode({"key": self.key})),
            "wrong": ({"X-API-Key": f"{self.key[:-4]}oops"}, ""),
        }
        return shown[sending.credential]


class Sender:
    """Sends over a few kept connections."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port
        self._credentials = credentials
        self._local = threading.local()

    def send_all(
        self,
        sendings: Sequence[Sending],
        seconds: float,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Answered]:
        """Send them spread over `seconds`; `progress` hears how many are answered."""
        started, pause = time.monotonic(), seconds / len(sendings)
        answered: list[Answered] = []

        def send(sending: Sending) -> None:
            answered.append(self.send(sending))

        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for index, sending in enumerate(sendings):
                time.sleep(max(0.0, started + index * pause - time.monotonic()))
                pool.submit(send, sending)
                progress(len(answered))
        return answered

    def send(self, sending: Sending) -> Answered:
        """One request, once more where a kept connection was closed meanwhile."""
        for again in (True, False):
            try:
                return self._send(sending)
            except (OSError, http.client.HTTPException):
                self._local.connection = None
                if not again:
                    break
        return Answered(sending, 0, {})

    def _send(self, sending: Sending) -> Answered:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=_SECONDS)
            self._local.connection = connection
        shown, query = self._credentials.of(sending)
        connection.request("POST", sending.path + query, sending.body, {**sending.headers, **shown})
        response = connection.getresponse()
        text = response.read()
        return Answered(sending, response.status, json.loads(text) if text else {})

    def get(self, path: str, key: str) -> dict[str, Any]:
        """What a question of the secret key's holder is answered."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_SECONDS)
        try:
            connection.request("GET", path, headers={"X-API-Key": key})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer
