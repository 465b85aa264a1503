"""Processes to be killed: the command's own, and the engines under it, seen from outside.

Nothing here looks into Conclave: who runs is read from the process table, and how far an engine is
from its HTTP routes. So what is killed, and what is left, is what an owner would see.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Stage = Literal["starting", "loading", "serving"]
_PROBE_S = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A process that runs."""

    pid: int
    parent: int
    group: int
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineProcesses:
    """One engine: an API server that leads a process group, its core, and helpers."""

    leader: int
    port: int
    core: int | None
    """None while it has none yet."""

    def stage(self) -> Stage:
        """starting: it does not answer yet. loading: it is paused, because its weights are being
        exchanged."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PROBE_S)
        try:
            if _get(connection, "/health")[0] != 200:
                return "starting"
            status, body = _get(connection, "/is_paused")
            is_paused = status == 200 and json.loads(body)["is_paused"]
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return "starting"
        finally:
            connection.close()
        return "loading" if is_paused else "serving"


class Processes:
    """Of one folder: every process that was started with ``folder`` as its data, and what these
    have started."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._groups: set[int] = set()

    def engines(self) -> list[EngineProcesses]:
        """Those that run, by their pids; they are remembered for ``left``."""
        rows = _table()
        keepers = {r.pid for r in rows if "keeper.py" in r.command and self._folder in r.command}
        found = []
        for row in rows:
            if row.parent not in keepers or row.pid != row.group:
                continue
            self._groups.add(row.group)
            words = row.command.split()
            if "--port" not in words:  # it is being put in the place of its parent
                continue
            cores = [r.pid for r in rows if r.group == row.pid and "EngineCore" in r.command]
            port = int(words[words.index("--port") + 1])
            found.append(EngineProcesses(leader=row.pid, port=port, core=min(cores, default=None)))
        return sorted(found, key=lambda e: e.leader)

    def left(self) -> list[str]:
        """Commands of those that still run, of engines and keepers, of now and of before."""
        return [
            r.command
            for r in _table()
            if r.group in self._groups or ("keeper.py" in r.command and self._folder in r.command)
        ]


def command(*arguments: str, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """``conclave`` in a process of its own, which works in ``folder`` and writes what it says to
    ``log``."""
    program = str(Path(sys.executable).with_name("conclave"))
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - our own command
            [program, *arguments],
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, "CONCLAVE_HOME": str(folder)},
        )


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it was quicker
        os.kill(pid, signal.SIGKILL)


def _table() -> list[Row]:
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,pgid=,stat=,args="],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return list(_rows(listed.stdout.splitlines()))


def _rows(lines: Iterable[str]) -> Iterable[Row]:
    for line in lines:
        pid, parent, group, state, *said = line.split(maxsplit=4)
        if not state.startswith("Z"):
            yield Row(
                pid=int(pid), parent=int(parent), group=int(group), command=said[0] if said else ""
            )


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.read()
