"""The output of several programs at once: for a terminal, or a JSON object a line."""

import contextlib
import json
import os
from datetime import UTC, datetime
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 31)


# How servers that don't write JSON begin a line that is no information.
LEVELS = {"WARNING": "WARNING", "ERROR": "ERROR", "FATAL": "ERROR", "PANIC": "ERROR"}


class Console:
    """Where lines go: each with its program's name before it, coloured on a terminal.

    In `json` each is an object that names the program as `process`.
    """

    def __init__(self, stream: TextIO, *, json: bool = False, width: int = 8) -> None:
        self._stream = stream
        self._json = json
        self._width = width
        self._colours: dict[str, int] = {}
        self._coloured = stream.isatty() and "NO_COLOR" not in os.environ

    def line(self, name: str, text: str) -> None:
        """One line of the program called `name`."""
        if self._json:
            self.plain(json.dumps(_entry(name, text)))
        else:
            self.announce(name, text)

    def announce(self, name: str, text: str) -> None:
        """A line that is for a person, whatever reads the others."""
        prefix = f"{name:<{self._width}} |"
        if self._coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self.plain(f"{prefix} {text}")

    def plain(self, text: str) -> None:
        """One line as it is."""
        try:
            self._stream.write(text + "\n")
            self._stream.flush()
        except OSError:
            # Whoever read our output has gone; that is no reason to stop serving. What is still in
            # the stream's buffer goes the same way, or the interpreter would complain at its exit.
            self._swallow()

    def _swallow(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        with contextlib.suppress(OSError, ValueError):
            os.dup2(null, self._stream.fileno())
        os.close(null)


def _entry(name: str, text: str) -> dict[str, object]:
    """A line as an object: the program's own, or one around its text."""
    with contextlib.suppress(json.JSONDecodeError):
        entry = json.loads(text) if text.startswith("{") else None
        if isinstance(entry, dict):
            return {**entry, "process": name}
    level = LEVELS.get(text.partition(":")[0], "INFO")
    now = datetime.now(UTC).isoformat()
    return {"time": now, "level": level, "message": text, "process": name}
