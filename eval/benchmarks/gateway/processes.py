"""Processes that a benchmark starts: on a core of their own, made to stand still, and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from experts.errors import ExpertFailure

_START_S = 120.0
_END_S = 10.0
_LOG_TAIL = 2000


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def started(
    command: Sequence[str], *, core: int, env: Mapping[str, str], cwd: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, on one core; ended, with all that it started, on leaving."""
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603
            ["taskset", "-c", str(core), *command],  # noqa: S607
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            cwd=cwd,
            env={**os.environ, **env},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for sign in (signal.SIGCONT, signal.SIGTERM):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until(
    is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, name: str
) -> None:
    """Raises ExpertFailure, with the end of what it said, where it ends first or takes too long."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if is_ready():
            return
        time.sleep(0.05)
    said = log.read_text(errors="replace")[-_LOG_TAIL:]
    raise ExpertFailure(f"{name} did not start. It said: {said}")


def answers(url: str, headers: Mapping[str, str]) -> bool:
    """Whether a GET brings 200."""
    parts = urlsplit(url)
    connection = HTTPConnection(str(parts.hostname), parts.port or 80, timeout=5)
    try:
        connection.request("GET", parts.path, headers=dict(headers))
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def stand_still(process: subprocess.Popen[bytes]) -> None:
    """Whoever waits for its turn must not use the core."""
    os.killpg(process.pid, signal.SIGSTOP)


def go_on(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGCONT)


def memory_bytes(process: subprocess.Popen[bytes]) -> int:
    """Resident, of the process and all that it started: shared pages are counted with each."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name, in brackets, may hold blanks; the parent is the second field behind it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    family = {process.pid}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    total = 0
    for pid in family:
        with suppress(OSError):
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            total += pages * os.sysconf("SC_PAGE_SIZE")
    return total
