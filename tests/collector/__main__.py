"""Runs a collector, and prints what it accepts."""

import argparse
import contextlib
import threading

from google.protobuf import json_format

from tests.collector.answers import Exchange, accept
from tests.collector.server import Collector


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.collector", description="A small OTLP receiver.")
    parser.add_argument("--port", type=int, default=4318)
    parser.add_argument("--quiet", action="store_true", help="print nothing of it")
    words = parser.parse_args()
    with Collector(words.port) as collector:
        collector.keeps = False
        if not words.quiet:
            collector.answer = _accept_and_print
        print(f"listening on {collector.url}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _accept_and_print(exchange: Exchange) -> None:
    accept(exchange)
    print(json_format.MessageToJson(exchange.received.request), flush=True)


if __name__ == "__main__":
    main()
