"""The bundled experts load in a real vLLM, and say there what they say in this process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from openai import OpenAI

from eval.questions import Question, lab_questions
from experts.bundled import FOLDER, BundledModel, bundled_experts, bundled_models
from experts.lab.questions import skills_of
from experts.values import Arm

N_PER_SKILL = 3


@contextmanager
def vllm_server(folder: Path) -> Iterator[OpenAI]:
    """A vLLM of its own for one model, on loopback; its whole process group ends with the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = {
        "--model": folder, "--served-model-name": "expert", "--dtype": "float32",
        "--max-model-len": "256", "--host": "127.0.0.1", "--port": port,
    }  # fmt: skip
    command = [os.environ["CONCLAVE_VLLM_PYTHON"], "-m", "vllm.entrypoints.openai.api_server"]
    command += [str(part) for pair in arguments.items() for part in pair] + ["--enforce-eager"]
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout
    lines: list[str] = []
    drain = threading.Thread(target=process.stdout.read)  # a full pipe would stop the server
    try:
        for line in process.stdout:  # ends with the process
            lines.append(line)
            if "Application startup complete" in line:
                break
        else:
            pytest.fail("".join(lines[-40:]))
        drain.start()
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="unused") as client:
            yield client
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        if drain.ident:
            drain.join()
        process.stdout.close()


def in_this_process(model: BundledModel, questions: list[Question]) -> list[str]:
    with ThreadPoolExecutor(1) as worker:
        [expert] = bundled_experts(worker, names=[model.name], load_usd_per_s=0.0)
        completions = asyncio.run(expert.complete([q.call(Arm(model.name)) for q in questions]))
    return [c.text for c in completions]


# As they are, by chat, with the engine's own tokenizer: one of each tokenizer. All of them on one
# engine, in tokens: tests/vllm/test_engines_on_vllm.py.
@pytest.mark.parametrize(
    "model",
    [m for m in bundled_models() if m.name in ("countries", "lists", "words")],
    ids=lambda m: m.name,
)
def test_vllm_says_what_transformers_says(model: BundledModel) -> None:
    skills = [s.name for s in skills_of(model.categories)]
    questions = lab_questions(N_PER_SKILL, "test", held_out_wording=False, seed=3, skills=skills)
    with vllm_server(FOLDER / model.name) as client:
        said = []
        for question in questions:
            answer = client.chat.completions.create(
                model="expert",
                messages=[{"role": "user", "content": question.question}],
                temperature=0,
                max_tokens=96,
            )
            said.append(answer.choices[0].message.content)
    assert said == in_this_process(model, questions)
