"""Experts say that they are cold; decisions price it and say so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from experts.local.expert import LocalExpert
from experts.values import Arm, Call, Completion, LoadOutlook, Sampling
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.ledger import Ledger
from tests import pools
from tests.typed import typed

PERU = "What is the capital of Peru?"


@pytest.fixture(scope="module")
def conclave() -> Iterator[Conclave]:
    with Ledger(":memory:") as ledger:
        yield Conclave.shipped(Config(), ledger=ledger)


def loads(conclave: Conclave) -> dict[str, dict[str, float]]:
    [decision] = conclave.decide([pools.query(PERU)], "conclave")
    return {row["arm"]: row["load"] for row in decision.explain()["scores"] if "load" in row}


def test_a_decision_tells_the_loads_of_cold_experts(
    conclave: Conclave, monkeypatch: pytest.MonkeyPatch
) -> None:
    outlooks = {"countries": LoadOutlook(load_s=2.0, n_waiting=3), "words": None}
    for name, outlook in outlooks.items():
        expert = conclave.experts[name]
        monkeypatch.setattr(expert, "load_outlook", lambda outlook=outlook: outlook)
    told = loads(conclave)
    assert "words" not in told
    assert told["countries"]["n_sharing"] == 4
    assert told["countries"]["share_usd"] == pytest.approx(2.0 * 2.5e-5 / 4)
    assert told["countries"]["says"] == "cold: load 2 s, 5e-05 $ shared by 4"


def test_how_long_a_load_takes_is_read_off_the_ledger(conclave: Conclave) -> None:
    card = conclave.pool.card("countries")
    assert loads(conclave)["countries"]["load_s"] == pytest.approx(
        (card.memory_bytes or 0) / 1e9, abs=1e-4
    )
    call = Call(query_id="q", arm=Arm("countries"), messages=(), sampling=Sampling())
    for load_s, version in ((5.0, card.version), (0.25, card.version), (0.01, "others")):
        completion = Completion(call=call, load_s=load_s)
        conclave.ledger.add_calls([completion], [None], versions={"countries": version})
    assert loads(conclave)["countries"]["load_s"] == 0.25


def test_a_local_expert_is_cold_until_it_is_loaded_and_counts_who_waits(
    conclave: Conclave,
) -> None:
    expert = conclave.experts["words"]
    assert isinstance(expert, LocalExpert)
    query = pools.query("Reverse the word cat.")
    call = Call(query_id="q", arm=Arm("words"), messages=query.messages, sampling=Sampling())

    async def ask() -> LoadOutlook | None:
        work = asyncio.create_task(expert.complete([call] * 3))
        await asyncio.sleep(0)
        seen = expert.load_outlook()
        await work
        return seen

    assert expert.load_outlook() == LoadOutlook(load_s=None, n_waiting=0)
    assert asyncio.run(ask()) == LoadOutlook(load_s=None, n_waiting=3)
    assert expert.load_outlook() is None


def test_ask_shows_what_is_cold() -> None:
    out = typed("ask", PERU, "--explain").stdout
    assert "cold: load s" in out
    assert "shared by" in out
