"""Unit tests as a grader: the answer's Python, then the reference's tests, in a sandbox.

The code runs in a process group of its own (``jail``, then ``harness``) with limits on processor
seconds, memory, size of files, processes and wall time, without our environment and open files.
Where Linux gives us namespaces (the ``unshare`` command) it also has no network, sees no process
but its own, and finds of the file system only the interpreter and the system's libraries,
read-only. Where it does not, limits alone would leave this user's files, processes and network
within reach; that must be allowed by ``CONCLAVE_UNISOLATED_CODE=1``.

What this does not do: memory is limited per process, so all together may use ``n_processes`` times
as much; the kernel is shared; and answer and tests share an interpreter, so an answer that is made
to attack its tests (it could patch what they assert with) can pass them. A wrong answer cannot by
accident: leaving early, in whatever way, is not passing.

A reference that an answer with nothing in it passes is refused (``check_tests``): its tests do not
run, so every answer would be right.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal, Self

from pydantic import Field

from eval.graders.code_tests import never_run
from eval.graders.harness import READY
from experts.errors import DataError, UserError

Walls = Literal["namespaces", "limits"]

ALLOW_UNISOLATED = "CONCLAVE_UNISOLATED_CODE"
TRANSIENT_UIDS = range(61_184, 65_520)
"""What root becomes, one user a run: systemd keeps these for services that need a user for a while,
so they own nothing."""
SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
MAX_OUTPUT_CHARS = 10_000
_SHOWN_CHARS = 60
_NOTHING = "pass"
START_S = 20.0
"""A sandbox that does not stand by then is broken; on a loaded machine it takes a second or two."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeLimits:
    """What code may use."""

    wall_s: float = 10.0
    """From when the sandbox stands; its own start takes some 100 ms more."""
    cpu_s: int = 5
    """Of each process."""
    memory_mb: int = 512
    """Address space of each process."""
    file_mb: int = 8
    """Of each file that it writes, and of what it prints."""
    n_processes: int = 16
    """Threads are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeRun:
    """What became of an answer and its tests."""

    passed: bool
    why: str
    """Why it did not pass; empty when it did."""
    output: str
    """The beginning of what it printed."""


DEFAULT_LIMITS = CodeLimits()


def code(
    answer: str,
    reference: str,
    *,
    wall_s: Annotated[float, Field(gt=0, le=600)] = DEFAULT_LIMITS.wall_s,
    cpu_s: Annotated[int, Field(ge=1, le=600)] = DEFAULT_LIMITS.cpu_s,
    memory_mb: Annotated[int, Field(ge=64, le=65_536)] = DEFAULT_LIMITS.memory_mb,
    n_processes: Annotated[int, Field(ge=1, le=1024)] = DEFAULT_LIMITS.n_processes,
) -> float:
    """1 when the reference's tests pass on the answer's code, else 0.

    The reference is Python that raises when the answer is wrong: assertions, ``test_`` functions,
    ``unittest`` cases, ``Test`` classes. It sees what the answer defines as if it stood
    below it. The answer's code is its Python fences in order, else its whole text. The settings are
    those of ``CodeLimits``.

    Blocks for up to ``wall_s``: in an event loop, call it in a thread.
    """
    limits = CodeLimits(wall_s=wall_s, cpu_s=cpu_s, memory_mb=memory_mb, n_processes=n_processes)
    return float(run_tests(answer, reference, limits).passed)


def run_tests(
    answer: str, tests: str, limits: CodeLimits = DEFAULT_LIMITS, *, walls: Walls | None = None
) -> CodeRun:
    """Like ``code``, and says why.

    walls: None takes the best that this machine has. Raises DataError for tests that are no Python,
    and UserError where code cannot be run; nothing that the answer does raises.
    """
    try:
        compile(tests, "<tests>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise DataError(
            f"The reference of grader 'code' is no Python: {error}. It should be tests that raise "
            "when the answer is wrong, such as 'assert double(2) == 4'."
        ) from None
    if not tests.strip():
        raise DataError("The reference of grader 'code' is empty: every answer would pass.")
    blocks = code_blocks(answer)
    if not any(block.strip() for block in blocks):
        return CodeRun(passed=False, why="there is no code in the answer", output="")
    return _run(blocks, tests, limits, walls or best_walls())


def check_tests(reference: str, **settings: Any) -> None:
    """Raises DataError for tests that would not run, or that pass without an answer: they are tried
    on code that defines nothing. UserError where code cannot be run; settings as for ``code``."""
    passed = code(_NOTHING, reference, **settings)
    why = never_run(reference) or ("passes without an answer" if passed else "")
    if why:
        raise DataError(
            f"The reference of grader 'code' {why}. It should be tests that raise when the answer "
            "is wrong, such as 'assert double(2) == 4'; without, every answer would get the same "
            f"score. It begins: {' '.join(reference.split())[:_SHOWN_CHARS]!r}."
        )


def code_blocks(answer: str) -> list[str]:
    """The fences that say Python, else those that say nothing, else the whole text.

    >>> code_blocks("Sure!\\n```python\\nx = 1\\n```\\nIt prints\\n```\\n1\\n```")
    ['x = 1']
    """
    by_language: dict[str, list[str]] = {}
    fence, language, lines = "", "", list[str]()
    for line in answer.splitlines():
        bare = line.strip()
        if fence and bare.startswith(fence) and not bare.strip(fence[0]):
            by_language.setdefault(language, []).append("\n".join(lines))
            fence = ""
        elif fence:
            lines.append(line)
        elif bare.startswith(("```", "~~~")):
            info = bare.lstrip(bare[0])
            fence, lines = bare[: len(bare) - len(info)], []
            language = info.strip().split(" ")[0].strip("{}.").lower()
    if fence:  # cut off by a token limit: what is there may be whole enough
        by_language.setdefault(language, []).append("\n".join(lines))
    python = [b for name in ("python", "python3", "py") for b in by_language.get(name, [])]
    return python or by_language.get("", []) or ([] if by_language else [answer])


@functools.cache
def why_not(walls: Walls) -> str:
    """Why code cannot be run behind these walls here; empty when it can. Tried out once."""
    if os.name != "posix":
        return "it needs a POSIX system"
    if walls == "namespaces" and not shutil.which("unshare"):
        return "there is no 'unshare' command"
    try:
        run = _run(["x = 1"], "assert x == 1", DEFAULT_LIMITS, walls)
    except (OSError, UserError) as error:
        return str(error)
    return run.why


def best_walls() -> Walls:
    """Namespaces where there are any. Raises UserError where limits alone are not allowed."""
    if not (problem := why_not("namespaces")):
        return "namespaces"
    if os.environ.get(ALLOW_UNISOLATED) != "1":
        raise UserError(
            f"The grader 'code' cannot shut code off from this machine: {problem}. On Ubuntu, "
            "'sysctl kernel.apparmor_restrict_unprivileged_userns=0' allows namespaces. Inside a "
            f"container or machine that may be lost, set {ALLOW_UNISOLATED}=1 to run code with "
            "limits on time and memory only: the network, and files and processes of this user, "
            "are then within its reach."
        )
    if problem := why_not("limits"):
        raise UserError(f"The grader 'code' cannot run code here: {problem}.")
    return "limits"


def _run(blocks: list[str], tests: str, limits: CodeLimits, walls: Walls) -> CodeRun:
    token = secrets.token_hex(16)
    request = json.dumps({"blocks": blocks, "tests": tests, "token": token})
    with (
        tempfile.TemporaryDirectory(prefix="conclave-code-", ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        _Pipe() as verdict,
    ):
        stdin.write(request.encode())
        stdin.seek(0)
        uid = secrets.choice(TRANSIENT_UIDS) if os.geteuid() == 0 else 0
        if uid:
            os.chown(folder, uid, uid)
        # What it prints goes to a file: nobody has to read along, and RLIMIT_FSIZE cuts it off. The
        # verdict goes through a pipe: what has been said there cannot be taken back by the code.
        process = subprocess.Popen(  # noqa: S603 - our own command
            _command(folder, limits, walls, uid),
            stdin=stdin,
            stdout=stdout,
            stderr=verdict.write_fd,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            verdict.wait_for_writer(START_S)
            process.wait(limits.wall_s)
            in_time = True
        except subprocess.TimeoutExpired:
            in_time = False
        finally:
            _kill_group(process)
        said = verdict.read()
        if READY not in said.splitlines():
            last = said.strip().rpartition("\n")[2]
            raise UserError(f"The sandbox did not start: {last or 'it said nothing'}.")
        why = _verdict(said, token)
        if in_time and process.returncode != 0:
            why = "it killed a process that was not its own"
        elif why is None:
            why = (
                "it ended before the tests did: a limit, a signal, or an early exit"
                if in_time
                else f"it was not done after {limits.wall_s:g} s"
            )
        return CodeRun(passed=not why, why=why, output=_head(stdout))


def _command(folder: str, limits: CodeLimits, walls: Walls, uid: int) -> list[str]:
    # The interpreter behind a virtual environment: -S leaves that one's packages out anyway.
    python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    isolated = walls == "namespaces"
    settings = {
        "isolated": isolated,
        "uid": uid,
        "folder": folder,
        "python": python,
        "harness": Path(__file__).with_name("harness.py").read_text(encoding="utf-8"),
        "readable": [*SYSTEM_FOLDERS, *_interpreter_folders(python)],
        "cpu_s": limits.cpu_s,
        "memory_bytes": limits.memory_mb << 20,
        "file_bytes": limits.file_mb << 20,
        "tmp_bytes": 8 * limits.file_mb << 20,
        "n_processes": limits.n_processes,
    }
    # As text: a user that owns nothing may not be able to read where Conclave is installed.
    program = Path(__file__).with_name("jail.py").read_text(encoding="utf-8")
    start = [python, "-I", "-S", "-B", "-X", "utf8", "-c", program, json.dumps(settings)]
    if not isolated:
        return start
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    spaces = ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
    return [str(shutil.which("unshare")), *user, *spaces, "--", *start]


def _interpreter_folders(python: str) -> list[str]:
    """What the interpreter needs of itself, outermost first."""
    folders = {sys.base_prefix, sys.base_exec_prefix, str(Path(python).parent.parent)}
    return sorted(str(Path(f).resolve()) for f in folders if len(Path(f).resolve().parts) > 1)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """All that the code started and that did not leave the group; with namespaces, those too."""
    with contextlib.suppress(ProcessLookupError):  # all gone
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _head(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(4 * MAX_OUTPUT_CHARS).decode("utf-8", "replace")[:MAX_OUTPUT_CHARS]


class _Pipe:
    """A pipe that is read once, when its writer has ended; what does not fit into it is lost."""

    def __enter__(self) -> Self:
        self._read_fd, self.write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._read_fd)
        if self.write_fd >= 0:
            os.close(self.write_fd)

    def wait_for_writer(self, timeout_s: float) -> None:
        """Until it has said something, or ended, which is seen because we let go of our own end."""
        os.close(self.write_fd)
        self.write_fd = -1
        select.select([self._read_fd], [], [], timeout_s)

    def read(self) -> str:
        try:
            return os.read(self._read_fd, 1 << 16).decode("utf-8", "replace")
        except BlockingIOError:  # nothing was written
            return ""


def _verdict(said: str, token: str) -> str | None:
    """What the harness said with our token; None when it did not get that far."""
    for line in said.splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("token") == token:
            return str(found.get("why", "no reason was given"))
    return None
