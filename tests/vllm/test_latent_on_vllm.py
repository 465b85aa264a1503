"""The bundled latent expert on vLLM servers that are started by hand, as docs/latent.md says: it
says there what it says in this process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from eval.latent.answering import answers, own_routes
from experts.bundled import FOLDER, LATENT_MEMBERS
from experts.expert import Expert
from experts.lab.composites.questions import draw_questions
from experts.latent.expert import BUNDLED_HEAD
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.values import Arm, Call, Message, Sampling
from orchestrator.config import load_config
from orchestrator.pool import make_experts
from tests.vllm.servers import port_of, started

PAGE = (Path(__file__).parents[2] / "docs" / "latent.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^.*vllm\.entrypoints.*$", PAGE, re.M)
[CONFIGURATION] = [t for t in re.findall(r"```yaml\n(.*?)```", PAGE, re.S) if "engines:" in t]
ROUTE = Route("guilds", ("people",))
N = 100


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Expert]:
    """The page's expert, on the page's servers."""
    text = CONFIGURATION
    with ExitStack() as stack, ThreadPoolExecutor(len(COMMANDS)) as pool:
        entered = {
            port_of(command): pool.submit(stack.enter_context, started(command))
            for command in COMMANDS
        }
        for port, url in entered.items():
            text = text.replace(f"http://127.0.0.1:{port}", url.result().removesuffix("/v1"))
        path = tmp_path_factory.mktemp("latent") / "conclave.yaml"
        path.write_text(text)
        yield make_experts(load_config(path))["together"]


def call(text: str) -> Call:
    return Call(
        query_id="q",
        arm=Arm("together"),
        messages=(Message(role="user", content=text),),
        sampling=Sampling(max_tokens=32),
    )


def test_it_says_on_engines_what_it_says_here(together: Expert) -> None:
    team = Team.load(BUNDLED_HEAD, {name: FOLDER / name for name in LATENT_MEMBERS})
    texts = [q.text for q in draw_questions("entities", "val", N + 20, seed=1)]
    able = [t for t, r in zip(texts, own_routes(team, texts), strict=True) if r == ROUTE][:N]
    assert len(able) == N
    here = answers(team, able, [ROUTE] * N)
    there = asyncio.run(together.complete([call(text) for text in able]))
    assert [c.error for c in there] == [None] * N
    assert [c.text for c in there] == here
    assert all(c.usage.input_tokens > 24 and c.cost_usd > 0 for c in there)
