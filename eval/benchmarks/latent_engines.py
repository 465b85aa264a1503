"""The soft-prefix form on real vLLM: the same answers as in this process, question by question."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from eval.benchmarks.latent import FIRST_DRAW, MEMBERS
from eval.latent.answering import MAX_TOKENS, answers, own_routes
from experts.lab.composites.questions import draw_questions
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.latent.wire import EngineUrls, SoftPrefixWire
from experts.values import Arm, Call, Message, Sampling
from experts.vllm.engine import Engine, EngineSettings
from orchestrator.vllm_pool import cpu_environment

ROUTE = Route("guilds", ("people",))
POOLING = ("--runner", "pooling", "--convert", "embed",
           "--pooler-config", '{"task": "token_embed"}')  # fmt: skip
EMBEDDINGS = ("--enable-prompt-embeds",)
_COMMON = ("--dtype", "float32", "--max-model-len", "256", "--enforce-eager")
_N_AT_ONCE = 16


def run_engines(
    head: Path, python: Path, *, n: int = 100, say: Callable[[str], None]
) -> dict[str, Any]:
    """Answers to ``n`` composites that the head routes to ``guilds`` with ``people``, each on an
    engine of its own, beside those of this process."""
    team = Team.load(head, MEMBERS)
    questions = _routed(team, n)
    here = answers(team, questions, [ROUTE] * n)
    there, seconds = asyncio.run(_on_engines(head, python, questions, say))
    same = sum(a == b for a, b in zip(here, there, strict=True))
    return {"n": n, "n_same": same, "seconds": seconds, "n_at_once": _N_AT_ONCE}


def _routed(team: Team, n: int) -> list[str]:
    found: list[str] = []
    draw = FIRST_DRAW
    while len(found) < n:
        texts = [q.text for q in draw_questions("entities", "test", n, seed=draw)]
        found += [t for t, r in zip(texts, own_routes(team, texts), strict=True) if r == ROUTE]
        draw += 1
    return found[:n]


async def _on_engines(
    head: Path, python: Path, questions: Sequence[str], say: Callable[[str], None]
) -> tuple[list[str], float]:
    async with engines(python, say) as urls:
        wire = SoftPrefixWire(head, MEMBERS, urls)
        gate = asyncio.Semaphore(_N_AT_ONCE)

        async def ask(text: str) -> str:
            async with gate:
                return (await wire.ask(_call(text))).text

        await ask(questions[0])  # loads the head
        started = time.perf_counter()
        found = await asyncio.gather(*map(ask, questions))
        return list(found), time.perf_counter() - started


@asynccontextmanager
async def engines(
    python: Path, say: Callable[[str], None]
) -> AsyncIterator[Mapping[str, EngineUrls]]:
    """A pooling engine for the peer, and one with prompt embeddings for the primary."""
    with tempfile.TemporaryDirectory() as logs:
        made = {
            name: Engine(
                name,
                EngineSettings(
                    python=str(python),
                    env={**cpu_environment(i, 2), "HF_HUB_OFFLINE": "1"},
                    log_dir=Path(logs),
                ),
            )
            for i, name in enumerate((ROUTE.primary, *ROUTE.peers))
        }
        try:
            for name, engine in made.items():
                say(f"starting vLLM for {name}")
                args = POOLING if name in ROUTE.peers else EMBEDDINGS
                await engine.start(MEMBERS[name], *_COMMON, *args)
            yield {name: _urls(name, engine) for name, engine in made.items()}
        finally:
            for engine in made.values():
                await engine.stop()


def _urls(name: str, engine: Engine) -> EngineUrls:
    url = engine.control.url
    if name in ROUTE.peers:
        return EngineUrls(pooling=url, model=engine.served_name)
    return EngineUrls(completions=url, model=engine.served_name)


def _call(text: str) -> Call:
    return Call(
        query_id="q",
        arm=Arm("latent"),
        messages=(Message(role="user", content=text),),
        sampling=Sampling(max_tokens=MAX_TOKENS),
    )
