"""What a person waits for: the command's help, the server's start, a warm question over HTTP.

Starts a server of its own on a free loopback port, with a data folder of its own, and asks one
question after the other. The floor is the same request loop against ``/healthz``: what HTTP and the
client cost without an answer.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import numpy as np

from eval.questions import lab_questions
from experts.errors import ExpertFailure
from experts.lab.questions import SKILLS

_START_TIMEOUT_S = 120
MODELS = {"conclave/cheap": 0.3, "conclave": None}
"""Asked over HTTP, with the goal for the median in seconds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds, of n repetitions."""

    name: str
    n: int
    p50_s: float
    p95_s: float
    goal_s: float | None = None
    """What the median must stay under."""


def run_bench(
    n_questions: int,
    *,
    n_starts: int = 3,
    seed: int = 0,
    on_progress: Callable[[str], None] = lambda what: None,
) -> list[Timing]:
    """All timings, in the order in which a person meets them."""
    on_progress("conclave --help")
    helps = [_timed(lambda: _run("--help")) for _ in range(5)]
    starts: list[float] = []
    for i in range(n_starts):
        on_progress(f"conclave serve, start {i + 1} of {n_starts}")
        with _server() as (_, ready_s):
            starts.append(ready_s)
    n_a_skill = -(-n_questions // len(SKILLS))
    questions = lab_questions(n_a_skill, "val", held_out_wording=False, seed=seed)
    questions = Random(seed).sample(questions, n_questions)  # they come skill by skill
    with _server() as (connection, _):
        on_progress("asking over HTTP")
        ask = {model: _asker(connection, model) for model in MODELS}
        for question in questions[:5]:  # the first few pay for lazy set-up
            for model in MODELS:
                ask[model](question.question)
        asked: dict[str, list[float]] = {model: [] for model in MODELS}
        floor = []
        for question in questions:  # interleaved: whatever else the machine does hits all
            for model in MODELS:
                started = time.perf_counter()
                if ask[model](question.question):  # abstaining is quick, and no answer
                    asked[model].append(time.perf_counter() - started)
            floor.append(_timed(lambda: _get(connection, "/healthz")))
    return [
        _timing("conclave --help", helps, 0.7),
        _timing("conclave serve until ready", starts, 15.0),
        *(
            _timing(
                f"warm {model} over HTTP ({n_questions - len(asked[model])} abstained)",
                asked[model],
                goal_s,
            )
            for model, goal_s in MODELS.items()
        ),
        _timing("floor: GET /healthz", floor, None),
    ]


def _timing(name: str, seconds: list[float], goal_s: float | None) -> Timing:
    p50, p95 = np.quantile(seconds or [np.nan], [0.5, 0.95])
    return Timing(name=name, n=len(seconds), p50_s=float(p50), p95_s=float(p95), goal_s=goal_s)


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _command() -> str:
    return str(Path(sys.executable).with_name("conclave"))


def _run(*arguments: str) -> None:
    subprocess.run([_command(), *arguments], check=True, capture_output=True)  # noqa: S603


@contextmanager
def _server() -> Iterator[tuple[http.client.HTTPConnection, float]]:
    """A server process and the seconds it took to be ready; stopped on leaving."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603
            [_command(), "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "CONCLAVE_HOME": folder},
        )
        try:
            said = (process.stdout.readline() if process.stdout else "").split()
            if len(said) < 3:
                raise ExpertFailure("The server did not start. See why: conclave doctor")
            address = urlsplit(said[2])
            connection = http.client.HTTPConnection(str(address.hostname), address.port or 0)
            _wait_until_ready(connection, process)
            yield connection, time.perf_counter() - started
            connection.close()
        finally:
            process.terminate()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _wait_until_ready(
    connection: http.client.HTTPConnection, process: subprocess.Popen[str]
) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if _get(connection, "/readyz") == 200:
            return
        time.sleep(0.02)
    raise ExpertFailure("The server did not become ready. See why: conclave doctor")


def _get(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def _asker(connection: http.client.HTTPConnection, model: str) -> Callable[[str], bool]:
    """Asks a question; whether it was answered, rather than left to the asker's fallback."""

    def ask(question: str) -> bool:
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        told = json.loads(response.read())
        if response.status != 200:
            raise ExpertFailure(f"{question!r}: {told['error']['message']}")
        return not told["conclave"]["abstained"]

    return ask
