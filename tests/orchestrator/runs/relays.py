"""Durable runs over scripted experts: what every test of them starts from."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from experts.cards import ExpertCard, Prices
from experts.errors import NotFitted
from experts.expert import Expert
from experts.fake import FakeExpert
from experts.human.desk import Desk
from experts.human.expert import CONTEXT_TOKENS, HumanExpert
from experts.values import Arm, Call, Completion, Limits, Message
from orchestrator.answer import Answer, no_answer
from orchestrator.conclave import Conclave
from orchestrator.config import DEFAULT_POLICIES, Config
from orchestrator.decision import Decision
from orchestrator.drivers.run import Recall, Run
from orchestrator.ledger import Ledger
from orchestrator.queries import make_query
from orchestrator.runs.runs import Runs
from orchestrator.strategies.asking import ask
from orchestrator.strategies.base import Steps
from skills.embedders import HashingEmbedder
from tests import pools

STAGES = (("a",), ("b",), ("a",), ("a", "b"), ("b",), ("a", "a"), ("b",), ("c",))
"""Whom a relay asks, step by step: ten calls."""
N_CALLS = sum(map(len, STAGES))


def relay(query: pools.Query, stages: Sequence[Sequence[str]] = STAGES) -> Steps:
    """Each step is asked about what the last one said, so no answer comes without all of them."""
    said, history = query.text, list[Completion]()
    for stage in stages:
        message = Message(role="user", content=said)
        calls = [
            replace(ask(query, Arm(name), sample=i), messages=(message,))
            for i, name in enumerate(stage)
        ]
        completions = yield calls
        history += completions
        said = "+".join(c.text if c.ok else "nothing" for c in completions)
    if not any(c.ok for c in history):
        return no_answer("nobody answered").with_history(tuple(history))
    return Answer(
        text=said,
        answer=said,
        p_correct=None,
        contributors=tuple(dict.fromkeys(c.call.arm for c in history if c.ok)),
        completions=(),
    ).with_history(tuple(history))


class RelayConclave(Conclave):
    """Whatever is asked goes through a relay."""

    strategy: Callable[[pools.Query], Steps] = staticmethod(relay)

    def run_of(
        self, decision: Decision, recall: Recall | None = None, *, keywords_first: bool = True
    ) -> Run:
        return Run(self.strategy(decision.query), decision.query.limits, self.pool)


@dataclass(frozen=True, slots=True)
class Folder:
    """A data folder, and what experts charged their owner."""

    path: Path

    @property
    def config(self) -> Config:
        return Config(data_dir=self.path)

    def charge(self, call: Call) -> None:
        with (self.path / "charged.txt").open("a") as file:
            file.write(f"{call.arm.expert} {call.sample} {call.messages[-1].content}\n")

    @property
    def charged(self) -> list[str]:
        path = self.path / "charged.txt"
        return path.read_text().splitlines() if path.exists() else []

    def calls(self) -> Counter[int]:
        """How often the ledger has each of the runs' calls, by number."""
        with Ledger(self.config.ledger_path) as ledger:
            rows = ledger.rows("SELECT b.seq FROM calls JOIN begun b USING (begun_id)")
            n_calls = ledger.rows("SELECT COUNT(*) AS n FROM calls")[0]["n"]
        assert n_calls == len(rows)
        return Counter(row["seq"] for row in rows)


def person(folder: Folder, *, call_usd: float = 2.0, **more: Any) -> HumanExpert:
    card = ExpertCard(
        name="boss",
        kind="human",
        description="decides",
        prices=Prices.a_call(call_usd),
        context_tokens=CONTEXT_TOKENS,
    )
    desk = more.pop("desk", None) or Desk(folder.config.desk_path)
    return HumanExpert(card, desk, **{"deadline_s": 1e6, "look_s": 0.01, **more})


def scripted(folder: Folder, on_call: Callable[[Call], None] = lambda call: None) -> list[Expert]:
    """a, b and c, which write down what they charge, and then are ``on_call``."""

    def say(name: str) -> Callable[[Call], str]:
        def said(call: Call) -> str:
            folder.charge(call)
            on_call(call)
            n = len(call.messages[-1].content)
            return f"{name}{call.sample}({n})"

        return said

    return [FakeExpert(name, say(name)) for name in "abc"]


@contextmanager
def opened(
    folder: Folder,
    experts: Iterable[Expert] | None = None,
    *,
    strategy: Callable[[pools.Query], Steps] = relay,
    **runs: Any,
) -> Iterator[Runs]:
    """As a process of its own would open them. runs: the configuration's section."""
    config = Config(data_dir=folder.path, runs=runs)
    pool = list(scripted(folder) if experts is None else experts)
    with Ledger(config.ledger_path) as ledger:
        conclave = RelayConclave(
            {e.card.name: e for e in pool},
            ledger,
            embedder=HashingEmbedder(),
            fitted=NotFitted("Nothing is fitted."),
            policies=DEFAULT_POLICIES,
            host_usd_per_s=0.0,
        )
        conclave.strategy = strategy  # type: ignore[method-assign]
        with Runs(conclave, config) as opened_runs:
            yield opened_runs


def start(runs: Runs, target: str = "a", limits: Limits | None = None) -> str:
    query = make_query(Config(), target, (Message(role="user", content="begin"),))
    return runs.start(query if limits is None else replace(query, limits=limits), target)


def finished(folder: Folder, run_id: str, **more: Any) -> Mapping[str, Any]:
    """Go on to the end; the answer."""
    with opened(folder, **more) as runs:
        view = asyncio.run(runs.go_on(run_id))
    assert view.row.answer is not None, view.row
    return view.row.answer


def killed_at(folder: Folder, run_id: str, moment: str, n: int) -> None:
    """What a process of its own does: go on with a run, and die when ``moment`` comes for the nth
    time."""
    seen: Counter[str] = Counter()

    def reach(name: str) -> None:
        if name == moment and seen[name] == n:
            os.kill(os.getpid(), signal.SIGKILL)
        seen[name] += 1

    def around(owner: type, method: str, name: str) -> Any:
        original = getattr(owner, method)

        def watched(*arguments: Any, **more: Any) -> Any:
            reach(f"before {name}")
            result = original(*arguments, **more)
            reach(f"after {name}")
            return result

        return patch.object(owner, method, watched)

    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    saved = AsyncSqliteSaver.aput_writes

    async def watched_saver(*arguments: Any, **more: Any) -> None:
        reach("before checkpoint")
        await saved(*arguments, **more)
        reach("after checkpoint")

    with (
        around(Ledger, "begin", "begun"),
        around(Ledger, "add_calls", "recorded"),
        around(Ledger, "add_answers", "answered"),
        patch.object(AsyncSqliteSaver, "aput_writes", watched_saver),
        opened(folder, scripted(folder, lambda call: reach("charged"))) as runs,
    ):
        asyncio.run(runs.go_on(run_id))
