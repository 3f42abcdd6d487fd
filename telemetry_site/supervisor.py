"""Runs child processes: prefixed output, restarts with back-off, an orderly end, no orphans.

Nothing here knows Django or this project. One thread does everything: the kernel's "tell me when my
parent dies" (PR_SET_PDEATHSIG) is about the *thread* that forked, and a fork is only safe without
other threads.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from telemetry_site.console import Console

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
TURN_SECONDS = 0.1
CHUNK_BYTES = 64 * 1024
MAX_RESTART_DELAY = 10.0
STEADY_SECONDS = 60.0  # a program that ran this long starts again with a clean slate
TAIL_LINES = 20


class StopRequested(BaseException):
    """Someone asked the supervisor's process to stop (SIGINT, SIGTERM or SIGHUP)."""


@dataclass(frozen=True)
class OsUser:
    """An account of the operating system that a program runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Program:
    """What to run, and how to end it. `environment` is all that it gets to see of ours."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    user: OsUser | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGTERM  # sent by the kernel when we die first
    grace: float = 10.0  # seconds from the stop signal to SIGKILL
    quiet: bool = False  # its last lines are shown when it dies, and none before
    for_people: bool = False  # its lines stay as they are where the others become JSON


@dataclass
class Child:
    """A program and the process that runs it now, or none between its death and its restart."""

    program: Program
    keep: bool
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    delay: float = 0.0
    restart_at: float = 0.0
    returncode: int | None = None
    partial: bytes = b""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))


class Supervisor:
    """Runs programs until it is told to stop; `turn()` must be called again and again meanwhile."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._children: dict[str, Child] = {}
        self._selector = selectors.DefaultSelector()
        self._stop_requests = 0
        self._interruptible = False
        self._stopping = False

    def say(self, text: str) -> None:
        """A line of the supervisor's own."""
        self.console.line("up", text)

    # --- being told to stop ---

    def listen_for_signals(self) -> None:
        """Take SIGINT, SIGTERM and SIGHUP as requests to stop (nohup keeps its meaning)."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_requests += 1
        if self._interruptible:
            self._interruptible = False
            raise StopRequested

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work done in this process, without `turn()`: a request to stop breaks into it."""
        self._interruptible = True
        try:
            self._obey()
            yield
        finally:
            self._interruptible = False

    def _obey(self) -> None:
        if self._stop_requests and not self._stopping:
            raise StopRequested

    @property
    def _hurried(self) -> bool:
        return self._stop_requests > 1

    # --- running ---

    def start(self, program: Program, *, keep: bool = True) -> None:
        """Start it; with `keep` start it again whenever it dies."""
        self._add(program, keep)

    def run(self, program: Program) -> int:
        """Run it once, to its end; its exit code (negative: the signal that killed it)."""
        child = self._add(program, keep=False)
        while child.process:
            self.turn()
        del self._children[program.name]
        assert child.returncode is not None
        return child.returncode

    def turn(self, seconds: float = TURN_SECONDS) -> None:
        """Pass on what the children say for `seconds`, bury the dead and restart them.

        Raises StopRequested once somebody asked for a stop.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._pass_on(max(0.0, deadline - time.monotonic()))
            for child in list(self._children.values()):
                self._check(child)
            self._obey()
            if time.monotonic() >= deadline:
                return

    def wait(self, seconds: float, done: Callable[[], bool], pause: float = TURN_SECONDS) -> bool:
        """Take turns until `done()` (True) or until the time is up (False)."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() >= deadline:
                return False
            self.turn(pause)
        return True

    def deaths(self, name: str) -> int:
        """How often the program has died since it was first started."""
        return self._children[name].deaths

    def _add(self, program: Program, keep: bool) -> Child:
        child = self._children[program.name] = Child(program, keep)
        self._spawn(child)
        return child

    def _spawn(self, child: Child) -> None:
        program, user = child.program, child.program.user
        # In a session of its own: Ctrl-C in the terminal is ours to pass on, in order.
        process = subprocess.Popen(
            list(program.argv),
            env=dict(program.environment),
            cwd=program.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            umask=0o077 if user else -1,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
            preexec_fn=_die_with(os.getpid(), program.orphan_signal),
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        self._selector.register(process.stdout, selectors.EVENT_READ, child)
        child.process, child.started, child.returncode = process, time.monotonic(), None

    # --- output ---

    def _pass_on(self, timeout: float) -> None:
        if not self._selector.get_map():
            time.sleep(timeout)
            return
        for key, _ in self._selector.select(timeout):
            self._read(key.data)

    def _read(self, child: Child) -> bool:
        """Pass on what is there; False when there is nothing (left)."""
        assert child.process is not None
        assert child.process.stdout is not None
        try:
            chunk = os.read(child.process.stdout.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            # It closed its output, or is about to be found dead.
            with contextlib.suppress(KeyError):
                self._selector.unregister(child.process.stdout)
            return False
        *lines, child.partial = (child.partial + chunk).split(b"\n")
        if len(child.partial) > CHUNK_BYTES:
            lines, child.partial = [*lines, child.partial], b""
        for line in lines:
            self._emit(child, line)
        return True

    def _emit(self, child: Child, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        child.tail.append(text)
        if not child.program.quiet:
            say = self.console.announce if child.program.for_people else self.console.line
            say(child.program.name, text)

    # --- death and restart ---

    def _check(self, child: Child) -> None:
        if child.process:
            if _has_ended(child.process.pid):
                self._bury(child)
        elif child.keep and time.monotonic() >= child.restart_at and not self._stopping:
            self._spawn(child)

    def _bury(self, child: Child) -> None:
        process = child.process
        assert process is not None
        assert process.stdout is not None
        # Before it is reaped, so that the number can't be another's: whatever it left behind
        # (a server's own workers) would hold on to ports and files.
        _kill_group(process.pid)
        while self._read(child):
            pass
        if child.partial:
            self._emit(child, child.partial)
            child.partial = b""
        with contextlib.suppress(KeyError):
            self._selector.unregister(process.stdout)
        process.stdout.close()
        child.returncode, child.process = process.wait(), None
        if child.program.quiet and (child.keep or child.returncode) and not self._stopping:
            for line in child.tail:
                self.console.line(child.program.name, line)
        if child.keep:
            self._schedule(child)

    def _schedule(self, child: Child) -> None:
        now = time.monotonic()
        child.delay = 0.0 if now - child.started >= STEADY_SECONDS else child.delay
        child.deaths += 1
        child.restart_at = now + child.delay
        when = f"in {child.delay:.0f} s" if child.delay else "now"
        self.say(f"{child.program.name} {_ending(child.returncode)}; restarting it {when}.")
        child.delay = min(child.delay + 1, MAX_RESTART_DELAY)

    # --- the end ---

    def restart(self, name: str, grace: float) -> None:
        """Stop it, with `grace` seconds to end by itself, and start it again."""
        child = self._children[name]
        child.keep = False
        self._end([child], grace)
        child.keep = True
        self._spawn(child)

    def stop(self, *names: str) -> None:
        """Stop these together, for good; each has its own grace. Unknown names are ignored."""
        self._stopping = True
        children = [self._children[name] for name in names if name in self._children]
        for child in children:
            child.keep = False
        self._end(children, None)

    def stop_everything(self) -> None:
        """Stop what still runs."""
        self.stop(*self._children)

    def _end(self, children: Sequence[Child], grace: float | None) -> None:
        begun = time.monotonic()
        for child in children:
            if child.process:
                child.process.send_signal(child.program.stop_signal)
        while alive := [child for child in children if child.process]:
            self.turn()
            for child in alive:
                allowed = child.program.grace if grace is None else grace
                if self._hurried or time.monotonic() - begun > allowed:
                    self._kill(child)

    def _kill(self, child: Child) -> None:
        if child.process:
            self.say(f"{child.program.name} doesn't stop by itself; killing it.")
            _kill_group(child.process.pid)
            self._bury(child)


def _die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    """For the new process, after its change of user (which would clear it) and before its exec."""

    def arm() -> None:
        if LIBC is None:
            return
        LIBC.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return arm


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ending(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with code {returncode}"
