"""Connections whose reader takes nothing any more, which the kernel is to end.

granian waits for a reader without end, a thread for each, and gives nobody the connection. The
kernel knows a time after which to give one up, and this process's sockets can be found.
"""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

# A reader who takes nothing for so long is gone.
SECONDS = 20
_OPEN_FILES = Path("/proc/self/fd")


def end_stalled() -> None:
    """Let the kernel end the connections that this process has accepted, each once it stalls."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(one) for one in _sockets()]
        ports = {_port(one) for one in found if _listens(one)}
        for one in found:
            if _port(one) in ports and not _listens(one):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SECONDS * 1000)


def _sockets() -> Iterator[socket.socket]:
    """Handles of our own for this process's TCP sockets; closing them closes nobody's."""
    for entry in list(_OPEN_FILES.iterdir()):
        # What was closed meanwhile is of no interest.
        with contextlib.suppress(OSError):
            if entry.is_socket():
                found = socket.socket(fileno=os.dup(int(entry.name)))
                if found.family in (socket.AF_INET, socket.AF_INET6):
                    yield found
                else:
                    found.close()


def _port(one: socket.socket) -> int:
    return int(one.getsockname()[1])


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
