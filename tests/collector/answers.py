"""What a collector may say: what it should, what it shouldn't, slowly, by halves or without end."""

import selectors
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from tests.collector.received import JSON, LOGS, METRICS, PROTOBUF, REQUESTS, Received

DRIP_SECONDS = 0.05
RESPONSES = {LOGS: ExportLogsServiceResponse, METRICS: ExportMetricsServiceResponse}
REJECTED = {LOGS: "rejected_log_records", METRICS: "rejected_data_points"}


class Exchange(BaseHTTPRequestHandler):
    """A request that waits for its answer, and the connection to write that to."""

    received: Received

    def write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """A whole answer, or one that its headers lie about."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def is_left(self, seconds: float | None) -> bool:
        """Wait so long, or without end, for the other side to hang up; whether it did."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            return bool(selector.select(seconds))


# Writes to the connection, or doesn't.
Answer = Callable[[Exchange], None]


def complaint(received: Received) -> Answer | None:
    """What any collector says to what isn't OTLP."""
    if received.path not in REQUESTS:
        return refuse(404, f"there is no {received.path}")
    if received.headers.get("content-type") not in (PROTOBUF, JSON):
        return refuse(415, "unknown content type")
    try:
        received.request  # noqa: B018 raises
    except ValueError as error:
        return refuse(400, str(error))
    return None


def accept(exchange: Exchange, rejected: int = 0, words: str = "") -> None:
    """200, in the request's own encoding."""
    path = exchange.received.path
    response = RESPONSES[path]()
    if rejected or words:
        setattr(response.partial_success, REJECTED[path], rejected)
        response.partial_success.error_message = words
    kind = exchange.received.headers["content-type"]
    exchange.write(200, {"Content-Type": kind}, _encoded(response, kind))
    exchange.received.accepted = True


def accept_partly(rejected: int, words: str = "") -> Answer:
    """200 with partial_success; of none rejected it is a warning."""
    return partial(accept, rejected=rejected, words=words)


def refuse(status: int, words: str = "", headers: dict[str, str] | None = None) -> Answer:
    """An error with a google.rpc.Status in the request's own encoding."""

    def answer(exchange: Exchange) -> None:
        asked = exchange.received.headers.get("content-type")
        kind = JSON if asked == JSON else PROTOBUF
        body = _encoded(Status(code=13, message=words), kind)
        exchange.write(status, {"Content-Type": kind, **(headers or {})}, body)

    return answer


def say(status: int, body: bytes, headers: dict[str, str] | None = None) -> Answer:
    """Any bytes at all."""
    return lambda exchange: exchange.write(status, headers or {}, body)


def after(seconds: float, answer: Answer) -> Answer:
    """Answer late, unless the other side has hung up by then."""
    return lambda exchange: None if exchange.is_left(seconds) else answer(exchange)


def once(event: threading.Event, answer: Answer) -> Answer:
    """Answer when the test says so, unless the other side has hung up by then."""

    def late(exchange: Exchange) -> None:
        while not event.is_set():
            if exchange.is_left(0.01):
                return
        answer(exchange)

    return late


def stay_silent(exchange: Exchange) -> None:
    """No answer, and the connection stays open."""
    exchange.is_left(None)
    exchange.close_connection = True


def hang_up(exchange: Exchange) -> None:
    """No answer, and the connection ends."""
    exchange.close_connection = True


def cut_short(exchange: Exchange) -> None:
    """200 and less of a body than its head announces: an answer that was lost."""
    exchange.write(200, {"Content-Type": PROTOBUF, "Content-Length": "1000"}, b"\n\x02")
    exchange.close_connection = True


def shout(words: bytes) -> Answer:
    """Bytes that need not be HTTP, and the end of the connection."""

    def answer(exchange: Exchange) -> None:
        exchange.wfile.write(words)
        exchange.close_connection = True

    return answer


def drip(start: bytes, drop: bytes) -> Answer:
    """An answer that never ends, a drop from time to time."""

    def answer(exchange: Exchange) -> None:
        exchange.wfile.write(start)
        while not exchange.is_left(DRIP_SECONDS):
            exchange.wfile.write(drop)
        exchange.close_connection = True

    return answer


def pour(status: int) -> Answer:
    """A body without end, as fast as it is read."""

    def answer(exchange: Exchange) -> None:
        exchange.close_connection = True
        exchange.wfile.write(b"HTTP/1.1 %d Poured\r\n\r\n" % status)
        while True:
            exchange.wfile.write(b"word " * 10_000)

    return answer


def _encoded(message: Message, kind: str) -> bytes:
    if kind == JSON:
        return json_format.MessageToJson(message).encode()
    return message.SerializeToString()
