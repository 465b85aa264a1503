"""What is asked while there are kills, and how everything is set up for it."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from random import Random
from typing import Any

from eval.benchmarks import kills_calls
from eval.questions import lab_questions
from experts.bundled import bundled_models
from experts.lab.questions import skills_of

N_SLOTS, CONCURRENCY = 2, 16
"""Of engines: so many calls are under way at most, and may be lost with a process."""


def batch_questions(n: int, seed: int) -> list[dict[str, str]]:
    """As many to each bundled expert, of its own skills, in a drawn order, as lines of a batch."""
    models = bundled_models()
    lines = []
    for model in models:
        skills = [skill.name for skill in skills_of(model.categories)]
        wanted = -(-n // len(models))
        each = -(-wanted // len(skills))
        drawn = lab_questions(each, "val", held_out_wording=False, seed=seed, skills=skills)
        lines += [
            {"id": f"{model.name}-{i}", "question": q.question, "model": model.name}
            for i, q in enumerate(drawn[:wanted])
        ]
    Random(seed).shuffle(lines)
    return lines[:n]


def write_config(folder: Path, data: str, python: Path | None) -> Path:
    """A file in ``folder``, whose books are in its folder ``data``; python: of engines, if any."""
    experts: dict[str, Any] = {"kind": "bundled"}
    config: dict[str, Any] = {"data_dir": str(folder / data), "limits": {"timeout_s": 900}}
    if python is not None:
        experts["runs_on"] = "vllm"
        inside = folder / "inside"
        inside.mkdir(exist_ok=True)
        shutil.copy(kills_calls.__file__, inside)
        config["vllm"] = {
            "python": str(python),
            "slots": [{"concurrency": CONCURRENCY}] * N_SLOTS,
            "hang_s": 30,
            "args": ["--middleware", kills_calls.MIDDLEWARE],
            "env": {
                "PYTHONPATH": str(inside),
                kills_calls.FILE_VARIABLE: str(folder / f"{data}.calls"),
            },
        }
    path = folder / f"{data}.yaml"
    # JSON is YAML, too.
    path.write_text(json.dumps({**config, "experts": [experts]}), encoding="utf-8")
    return path


def free_port() -> int:
    """Of this machine alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
