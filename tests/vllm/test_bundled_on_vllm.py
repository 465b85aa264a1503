"""The bundled experts in vLLM servers that are started by hand, as docs/serving.md says: they say
there what they say in this process, and a configuration with their URLs answers as one with
engines that Conclave starts."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from openai import OpenAI

from eval.questions import Question, lab_questions
from experts.bundled import bundled_experts, bundled_models
from experts.lab.questions import skills_of
from experts.values import Arm
from tests.vllm.servers import SERVERS, SHELL, port_of, started, with_our_python

N_PER_SKILL = 3
RUNS = ("managed", "by-hand")


@pytest.fixture(scope="module")
def by_hand() -> Iterator[dict[str, str]]:
    """URLs of the page's servers, by name; started side by side."""
    with ExitStack() as stack, ThreadPoolExecutor(len(SERVERS)) as pool:
        servers = {name: started(command) for name, command in SERVERS.items()}
        entered = {name: pool.submit(stack.enter_context, s) for name, s in servers.items()}
        yield {name: url.result() for name, url in entered.items()}


def in_this_process(name: str, questions: list[Question]) -> list[str]:
    with ThreadPoolExecutor(1) as worker:
        [expert] = bundled_experts(worker, names=[name], load_usd_per_s=0.0)
        completions = asyncio.run(expert.complete([q.call(Arm(name)) for q in questions]))
    return [c.text for c in completions]


def asked(url: str, name: str, questions: list[Question]) -> list[str | None]:
    with OpenAI(base_url=url, api_key="unused") as client:
        answers = [
            client.chat.completions.create(
                model=name,
                messages=[{"role": "user", "content": question.question}],
                temperature=0,
                max_tokens=96,
            )
            for question in questions
        ]
    return [answer.choices[0].message.content for answer in answers]


def questions_for(name: str) -> list[Question]:
    [model] = [m for m in bundled_models() if m.name == name]
    skills = [s.name for s in skills_of(model.categories)]
    return lab_questions(N_PER_SKILL, "test", held_out_wording=False, seed=3, skills=skills)


# As they are, by chat, with the engine's own tokenizer: one of each tokenizer. All of them on one
# engine, in tokens: tests/vllm/test_engines_on_vllm.py.
@pytest.mark.parametrize("name", SERVERS)
def test_vllm_says_what_transformers_says(name: str, by_hand: dict[str, str]) -> None:
    questions = questions_for(name)
    assert asked(by_hand[name], name, questions) == in_this_process(name, questions)


def test_another_tokenizer_too() -> None:
    command = SERVERS["words"].replace("words", "lists")
    with started(command) as url:
        questions = questions_for("lists")
        assert asked(url, "lists", questions) == in_this_process("lists", questions)


def test_the_same_file_with_urls_instead_of_bundled_experts_answers_the_same(
    by_hand: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/serving.md, typed as it stands, with more questions."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    more = [
        {"id": f"{name}-{i}", "model": name, "question": question.question}
        for name in SERVERS
        for i, question in enumerate(questions_for(name))
    ]
    blocks = [text for text in SHELL if "common.yaml" in text or "questions.jsonl" in text]
    text = with_our_python("".join(blocks))
    for name, command in SERVERS.items():
        text = text.replace(f"http://localhost:{port_of(command)}/v1", by_hand[name])
    last = "END\nconclave doctor"
    assert last in text
    text = text.replace(last, "".join(json.dumps(line) + "\n" for line in more) + last)
    run = subprocess.run(["sh", "-e", "-c", text], capture_output=True, text=True, check=False)
    assert run.stdout.endswith("the same answers\n"), run.stdout + run.stderr

    files = {name: yaml.safe_load(Path(f"{name}.yaml").read_text()) for name in RUNS}
    experts = [file.pop("experts") for file in files.values()]
    assert experts[0] != experts[1]
    assert files["managed"] == files["by-hand"]
    managed, by_url = (answers(name) for name in RUNS)
    assert len(managed) == len(more) + 4
    assert managed == by_url
    assert managed["peru"] == ("Lima", ["countries"])


def answers(name: str) -> dict[str, tuple[str, list[str]]]:
    lines = [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]
    return {line["id"]: (line["text"], line["contributors"]) for line in lines}
