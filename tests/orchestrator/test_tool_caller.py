"""The whole way on real models: a question, the bundled tool caller, tool servers over MCP, the
result in the answer, and every call in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import yaml

from experts.tools.expert import ToolExpert
from experts.values import Arm, Call, Message, Sampling, ToolCall
from orchestrator.conclave import Conclave
from orchestrator.config import Config, load_config
from orchestrator.decision import Result
from orchestrator.ledger import Ledger
from orchestrator.queries import Wishes, make_query
from tests.orchestrator.scripted import indifferent

PLAN = "tools(by='tool_caller', of='math.evaluate units.convert iox', solver='generalist')"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("tools")
    path = folder / "conclave.yaml"
    experts = [
        {"kind": "bundled", "names": ["generalist", "tool_caller"]},
        *({"kind": "tools", "bundled": name} for name in ("math", "units", "iox")),
    ]
    policy = {"fallback_price_usd": 0.01, "plan": PLAN}
    settings = {
        "data_dir": str(folder), "embedder": "hashing-64", "experts": experts,
        "policies": {"exact": policy}, "learning": {"enabled": False},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    return load_config(path)


@pytest.fixture(scope="module")
def system(config: Config) -> Iterator[Conclave]:
    with Ledger(":memory:") as ledger:
        made = Conclave.from_config(config, ledger=ledger)
        made.fitted = indifferent(made.pool)
        yield made
        for expert in made.experts.values():
            if isinstance(expert, ToolExpert):
                expert.server._thread.close()


def asked(system: Conclave, config: Config, text: str) -> Result:
    query = make_query(config, "exact", (Message(role="user", content=text),), Wishes())
    return asyncio.run(system.answer(query, "exact", source="test"))


def by(result: Result) -> list[str]:
    return [str(c.call.arm) for c in result.answer.completions]


@pytest.mark.parametrize(
    ("question", "tool", "answer"),
    [
        ("How much is 417 + 385?", "math.evaluate", "802"),
        ("Convert 3 km to m.", "units.convert", "3000"),
        ("Is there a line of sight in channel H1?", "iox.line_of_sight", "yes"),
        ("What is the SNR band of channel H1?", "iox.snr_band", "medium"),
    ],
)
def test_tools_answer_through_the_caller(
    system: Conclave, config: Config, question: str, tool: str, answer: str
) -> None:
    simulated(system)
    result = asked(system, config, question)
    assert by(result) == ["tool_caller", tool, "tool_caller"]
    assert result.answer.answer == answer
    rows = list(
        system.ledger.rows(
            "SELECT expert, cost_usd FROM calls WHERE query_id = ? ORDER BY call_id",
            [result.decision.query.query_id],
        )
    )
    assert [row["expert"] for row in rows] == ["tool_caller", tool, "tool_caller"]
    assert all(row["cost_usd"] > 0 for row in rows)
    assert sum(row["cost_usd"] for row in rows) == pytest.approx(result.answer.cost_usd)


def simulated(system: Conclave) -> None:
    """The server's first channel, H1, is of seed 12: a line of sight, and a medium SNR."""
    message = Message(
        role="assistant",
        content="",
        tool_calls=(ToolCall(id="c", name="simulate", arguments='{"seed": 12}'),),
    )
    call = Call(query_id="s", arm=Arm("iox.simulate"), messages=(message,), sampling=Sampling())
    [made] = asyncio.run(system.experts["iox.simulate"].complete([call]))
    assert made.ok
