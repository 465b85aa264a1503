"""Keeps one engine: a small process between us and it, so that no engine outlives us.

Run as a script: ``python keeper.py GRACE_S LOG MAX_LOG_BYTES COMMAND...``. It starts the command as
the leader of a process group of its own, writes its process id to standard output (or why there is
none), and waits for one of two ends:

- Standard input ends. We closed it to stop the engine, or we are gone (also by ``kill -9``: the
  kernel closes it). The group gets SIGTERM, and SIGKILL after GRACE_S.
- The command ends. What is left of its group is killed: an engine is several processes, and those
  that outlive the first would hold on to its memory.

What the command says goes to LOG. Grown beyond MAX_LOG_BYTES, that becomes the previous log, and
begins anew: a vLLM writes a line for each request, for months.

Standard library only, and nothing of ours: it runs before and after everything else. (A death
signal set with prctl would follow the thread that started the engine, not the process.)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.5


def main() -> int:
    grace_s, log, max_log_bytes = float(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    command = sys.argv[4:]
    try:
        with log.open("ab") as file:
            engine = subprocess.Popen(  # noqa: S603 - the configured command
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_the_keeper(),  # noqa: PLW1509 - one thread so far
            )
    except OSError as error:
        sys.stdout.write(f"{error.strerror}: {error.filename}\n")
        return 1
    sys.stdout.write(f"{engine.pid}\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with_us, args=(engine.pid, grace_s), daemon=True).start()
    threading.Thread(target=_keep_small, args=(log, max_log_bytes), daemon=True).start()
    code = engine.wait()
    _signal(engine.pid, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _end_with_us(group: int, grace_s: float) -> None:
    while os.read(0, 1024):
        pass
    _signal(group, signal.SIGTERM)
    time.sleep(grace_s)  # the process ends before, if the engine does
    _signal(group, signal.SIGKILL)


def _keep_small(log: Path, max_bytes: int) -> None:
    while True:
        time.sleep(_LOOK_S)
        with contextlib.suppress(OSError):  # a full disk, or somebody took it away
            if log.stat().st_size > max_bytes:
                # The engine holds it open, to append: a copy, and from the beginning again.
                shutil.copyfile(log, log.with_suffix(".previous.log"))
                os.truncate(log, 0)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
        os.killpg(group, number)


def _die_with_the_keeper() -> Callable[[], object] | None:
    """For the keeper's own ``kill -9``, on Linux only: told to end, an engine ends its children,
    too; killed, it would leave them."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
