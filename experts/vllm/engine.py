"""One vLLM process: start, health, logs, death, end.

An engine is a group of processes behind a keeper (``keeper``), which ends it when we end, however
we end. It listens on a free port of the loopback interface. Its output goes to a file, whose last
lines are in every error. Which model it should hold, and when, is not decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from experts.errors import ConfigError, EngineFailed
from experts.vllm.control import Control

if TYPE_CHECKING:
    from aiohttp import ClientSession

log = logging.getLogger(__name__)

PROGRAM = ("-m", "vllm.entrypoints.openai.api_server")
"""Works with every build; the ``vllm`` command of the CPU build looks for another package."""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # folders only: nothing is fetched
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    # By default it hangs up on a connection that was idle for 5 s. On a busy machine it finds the
    # next request late, and hangs up on that; and a POST that was lost is not repeated.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3600",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # the routes that ``control`` needs
}
_NO_ACCESS_LOG = "--disable-uvicorn-access-log"
"""A line for each request, among which what an engine says of itself would be lost."""
_NOT_PASSED_ON = ("VLLM_API_KEY",)
"""Of our own environment: an engine that wants a key would not answer us."""
KEPT_S = 2.0
"""An idle connection is used again. Less than an engine keeps it, also where its owner's ``env``
has it hang up sooner: what is sent at that moment is lost. A swap failed so, and cost a restart."""
_KEEPER = Path(__file__).parent / "keeper.py"
_SHOWN_LINES = 15
_PORT_TRIES = 3
_POLL_S = 0.05
_MEANINGS = (
    (r"address already in use|Errno 98", "its port is in use"),
    (
        r"out of memory|OutOfMemory|cannot allocate memory|No available memory for the cache"
        r"|not enough memory|MemoryError|less than desired (?:GPU|CPU) memory",
        "there is not enough memory for it: use a smaller model or precision, lower "
        "--gpu-memory-utilization or --max-model-len, or free memory",
    ),
    (
        r"architectures? \[?.*(?:not supported|failed to be inspected)|is not supported for now"
        r"|does not recognize this architecture|has no vLLM implementation",
        "its vLLM does not know this architecture",
    ),
    (r"No module named '?vllm", "there is no vLLM in that Python: install it, or set `python`"),
    (
        r"SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer",
        "weights are broken",
    ),
    (r"unrecognized arguments|error: argument", "it does not know one of its arguments"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSettings:
    """How engines are run."""

    python: str = sys.executable
    """The Python that has vLLM; its environment may be another than ours."""
    program: tuple[str, ...] = PROGRAM
    args: tuple[str, ...] = ()
    """Added to what is needed: ``--dtype``, ``--gpu-memory-utilization``, ..."""
    env: Mapping[str, str] = field(default_factory=dict)
    log_dir: Path
    max_log_bytes: int = 32 << 20
    """Of an engine's log; then it becomes the previous one."""
    start_s: float = 600.0
    """To be healthy after a start; then it counts as hung. Large models take minutes."""
    stop_s: float = 15.0
    """To end when it is asked to; then it is killed."""
    hang_s: float = 120.0
    """Without a new token while requests run; then it counts as hung."""
    port: int = 0
    """0 takes a free one at every start."""


class Engine:
    """One engine at a time; it can be started again after it ended."""

    def __init__(self, name: str, settings: EngineSettings) -> None:
        self.name, self.settings = name, settings
        self.served_name = ""
        """Of the base model. New at every start, so that no other server on this port can be taken
        for this engine."""
        self.n_starts = 0
        self._keeper: subprocess.Popen[bytes] | None = None
        self._group: int | None = None
        self._ending: asyncio.Task[None] | None = None
        self._session: ClientSession | None = None
        self._control: Control | None = None

    @property
    def log_path(self) -> Path:
        return self.settings.log_dir / f"{self.name}.log"

    @property
    def control(self) -> Control:
        """Raises EngineFailed when it does not run."""
        if self._control is None:
            raise EngineFailed(f"Engine {self.name!r} does not run.")
        return self._control

    @property
    def is_running(self) -> bool:
        return self._keeper is not None and self._keeper.poll() is None

    @property
    def pid(self) -> int | None:
        """Of the first of its processes, which leads their group."""
        return self._group

    async def is_healthy(self) -> bool:
        return self._control is not None and await self._control.is_healthy()

    async def start(self, folder: Path, *args: str) -> float:
        """Start with the model in ``folder``; the seconds until it was healthy.

        Raises EngineFailed, with the last lines of its log, when it dies, when it is not healthy in
        time, or when its port is taken; then nothing of it is left.
        """
        await self.stop(at_once=True)
        started = time.perf_counter()
        for n_try in range(1, _PORT_TRIES + 1):
            try:
                await self._start(folder, args)
                break
            except EngineFailed as error:
                await self.stop(at_once=True)
                # Between our finding a free port and its taking it, another process may.
                if error.is_port_taken and not self.settings.port and n_try < _PORT_TRIES:
                    continue
                raise
            except BaseException:
                await self.stop(at_once=True)
                raise
        return time.perf_counter() - started

    async def ended(self) -> EngineFailed:
        """Waits for its process to end, and says why."""
        if self._keeper is None:
            return EngineFailed(f"Engine {self.name!r} does not run.")
        code = await _ending_of(self._keeper)
        is_killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        return self.failure(f"died ({_ending(code)})", is_killed=is_killed)

    async def stop(self, *, at_once: bool = False) -> None:
        """End all of its processes: by SIGTERM and, after ``stop_s``, SIGKILL; or at once."""
        keeper, group, session = self._keeper, self._group, self._session
        self._keeper = self._group = self._control = self._session = None
        if keeper is not None:
            # Before anything is waited for: whoever is cancelled then must not leave it running.
            self._ending = asyncio.create_task(self._end(keeper, group, session, at_once=at_once))
        if self._ending is not None:
            # A caller who is cancelled leaves it to go on; whoever stops it next waits for it, too.
            await asyncio.shield(self._ending)

    async def _end(
        self,
        keeper: subprocess.Popen[bytes],
        group: int | None,
        session: ClientSession | None,
        *,
        at_once: bool,
    ) -> None:
        if session is not None:
            await session.close()
        if at_once and group is not None:
            _kill_group(group)
        assert keeper.stdin  # noqa: S101 - it is a pipe
        keeper.stdin.close()
        try:
            async with asyncio.timeout(self.settings.stop_s + 5):
                await _ending_of(keeper)
        except TimeoutError:
            keeper.kill()
            await _ending_of(keeper)
        # Also when the keeper was killed before it could do this itself.
        if group is not None:
            _kill_group(group)

    async def _start(self, folder: Path, args: Sequence[str]) -> None:
        import aiohttp

        settings = self.settings
        port = settings.port or _free_port()
        if settings.port and not _is_free(port):
            raise EngineFailed(
                f"Engine {self.name!r} cannot listen on port {port}: it is in use. End what "
                "listens there, or leave `port` out so that a free one is taken.",
                is_port_taken=True,
            )
        self.served_name = f"{self.name}-{secrets.token_hex(4)}"
        self.n_starts += 1
        command = [settings.python, *settings.program, "--model", str(folder)]
        command += ["--served-model-name", self.served_name]
        command += ["--host", "127.0.0.1", "--port", str(port), _NO_ACCESS_LOG]
        command += [*args, *settings.args]
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".previous.log"))
        ours = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
        log.info("engine %s: %s", self.name, " ".join(command))
        try:
            # Not asyncio's: its processes belong to a loop, and leak pipes when that ends.
            keeper = subprocess.Popen(  # noqa: S603 - the configured command; a millisecond
                [sys.executable, "-I", "-S", str(_KEEPER), str(settings.stop_s),
                 str(self.log_path), str(settings.max_log_bytes), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**ours, **ENVIRONMENT, **settings.env},
                start_new_session=True,  # so that Ctrl-C in a terminal is ours to handle
            )  # fmt: skip
        except OSError as error:
            raise EngineFailed(f"Engine {self.name!r} cannot be started: {error}") from None
        self._keeper = keeper
        assert keeper.stdout  # noqa: S101 - it is a pipe
        with keeper.stdout:
            line = (await asyncio.to_thread(keeper.stdout.readline)).decode("utf-8", "replace")
        if line.strip().endswith(f": {settings.python}"):
            raise ConfigError(
                f"Engine {self.name!r} cannot be started: there is no program {settings.python!r}, "
                "or it is none. Set `python` under `vllm:` to the Python that has vLLM."
            )
        if not line.strip().isdigit():  # its log cannot be written; or its keeper was killed
            raise EngineFailed(f"Engine {self.name!r} cannot be started: {line.strip()}")
        self._group = int(line)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
            read_bufsize=1 << 20,
        )
        self._control = Control(f"http://127.0.0.1:{port}", self._session)
        await self._until_healthy(self._control)

    async def _until_healthy(self, control: Control) -> None:
        died = asyncio.create_task(self.ended())
        try:
            async with asyncio.timeout(self.settings.start_s):
                while not died.done():
                    # The first answers of a server that is loading may take seconds.
                    if await control.is_healthy(5.0) and self.served_name in await control.models():
                        return
                    await asyncio.wait([died], timeout=_POLL_S)
                raise died.result()
        except TimeoutError:
            raise self.failure(
                f"was not healthy within {self.settings.start_s:g} s: it hangs, or `start_s` is "
                "too short for this model",
                is_hung=True,
            ) from None
        finally:
            died.cancel()

    def failure(self, what: str, *, is_hung: bool = False, is_killed: bool = False) -> EngineFailed:
        """An error about this engine, with the end of its log."""
        tail = _last_lines(self.log_path)
        meaning = _meaning(tail)
        why = f"; it seems that {meaning}" if meaning else ""
        return EngineFailed(
            f"Engine {self.name!r} {what}{why}. The end of {self.log_path}:",
            log="\n".join(tail[-_SHOWN_LINES:]),
            is_port_taken=meaning == _MEANINGS[0][1],
            is_hung=is_hung,
            is_killed=is_killed,
        )


async def _ending_of(process: subprocess.Popen[bytes]) -> int:
    """Its exit code, when it has one."""
    while (code := process.poll()) is None:
        await asyncio.sleep(_POLL_S)
    return code


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _ending(code: int) -> str:
    """Of a keeper: an engine's exit code, or 128 and its signal, as shells tell it."""
    if code == 128 + signal.SIGKILL:
        return "killed; by the kernel, if memory ran out"
    if code > 128:
        return f"signal {code - 128}"
    return f"exit code {code}"


def _last_lines(path: Path, n: int = 200) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - (64 << 10)))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    # What C++ libraries say about themselves at exit would push the reason out of sight.
    kept = [line for line in lines if not re.match(r"nanobind: | - (?:leaked|\.\.\.)", line)]
    return kept[-n:]


def _meaning(lines: Sequence[str]) -> str | None:
    text = "\n".join(lines)
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, text, re.I):
            return meaning
    return None
