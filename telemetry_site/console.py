"""The terminal output of several programs at once."""

import contextlib
import os
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 31)


class Console:
    """Where lines go: each with its program's name before it, coloured on a terminal."""

    def __init__(self, stream: TextIO, width: int = 8) -> None:
        self._stream = stream
        self._width = width
        self._colours: dict[str, int] = {}
        self._coloured = stream.isatty() and "NO_COLOR" not in os.environ

    def line(self, name: str, text: str) -> None:
        """One line of the program called `name`."""
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
