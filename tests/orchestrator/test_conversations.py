"""Conversations stay on an expert that has read them, unless another gains more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from experts.cards import ExpertCard, Prices
from experts.expert import Pool
from experts.fake import FakeExpert
from experts.values import Arm, Call, Completion, Message, Query, Sampling, ToolCall, Usage
from orchestrator.answer import Answer
from orchestrator.conclave import Conclave
from orchestrator.config import DEFAULT_POLICIES, Config
from orchestrator.conversations import Conversations
from orchestrator.decision import Result
from orchestrator.fitted import Fitted
from orchestrator.ledger import Ledger
from orchestrator.pool import make_experts
from orchestrator.rest.app import create_app
from orchestrator.states import SHIPPED_STATE
from skills.embedders import Embedder, make_embedder
from tests.orchestrator.mcp.clients import in_process

V = 1e-3
PLAIN = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
CACHED = replace(PLAIN, cached_input_usd_per_mtok=0.1)
MANUAL = Message(role="system", content="You are told this first. " * 40)
SUM, NEXT_SUM, WORD = "How much is 12 plus 30?", "What is 417 plus 385?", "Reverse the word planet."
ANSWERS = {SUM: "42", NEXT_SUM: "802", WORD: "tenalp"}


class Keeping(FakeExpert):
    """A server that keeps what it has read, and says how much of that it is sent again."""

    def __init__(self, *args: object, keeps: bool = True, **more: object) -> None:
        super().__init__(*args, **more)  # type: ignore[arg-type]
        self._keeps, self._had = keeps, set[tuple[Message, ...]]()

    async def complete(self, calls: Sequence[Call]) -> list[Completion]:
        return [self._counted(c) for c in await super().complete(calls)]

    def _counted(self, completion: Completion) -> Completion:
        turns = completion.call.messages
        starts = [turns[:n] for n in range(len(turns), 0, -1)]
        had = next((s for s in starts if s in self._had), ()) if self._keeps else ()
        said = Message(role="assistant", content=completion.text)
        self._had |= {turns, (*turns, said)}
        n_had = sum(len(m.content.split()) for m in had)
        usage = replace(completion.usage, cached_tokens=n_had)
        return replace(completion, usage=usage, cost_usd=self.card.prices.cost_usd(usage))


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return make_embedder(Config().embedder)


@pytest.fixture(scope="module")
def cards() -> list[ExpertCard]:
    return [expert.card for expert in make_experts(Config()).values()]


Maker = Callable[..., Conclave]


@pytest.fixture
def made(ledger: Ledger, embedder: Embedder, cards: list[ExpertCard]) -> Maker:
    """The bundled pool with its router, at prices of APIs. Of sums, it expects the specialist to be
    right a little more often than the generalist."""

    def make(generalist: Prices = CACHED, *, keeps: bool = True) -> Conclave:
        experts = {
            card.name: Keeping(
                card.name,
                ANSWERS,
                prices=generalist if card.name == "generalist" else PLAIN,
                version=card.version,
                keeps=keeps,
            )
            for card in cards
        }
        return Conclave(
            experts,
            ledger,
            embedder=embedder,
            fitted=Fitted.load(SHIPPED_STATE, Pool.of(experts.values()), embedder.name),
            policies=DEFAULT_POLICIES,
            host_usd_per_s=0.0,
        )

    return make


def query(
    turns: Sequence[Message], query_id: str, caller: str = "", fallback_price_usd: float = V
) -> Query:
    return Query(
        query_id=query_id,
        messages=tuple(turns),
        fallback_price_usd=fallback_price_usd,
        caller=caller,
    )


def user(text: str) -> Message:
    return Message(role="user", content=text)


def second_turn(
    conclave: Conclave,
    text: str,
    *,
    callers: tuple[str, str] = ("", ""),
    fallback_price_usd: float = V,
) -> Result:
    """One turn by the generalist, who is named, and the next by whom the policy chooses."""
    turns = [MANUAL, user(SUM)]
    ask = conclave.answer(query(turns, "q-1", callers[0]), "generalist", source="test")
    said = Message(role="assistant", content=asyncio.run(ask).answer.text)
    turns += [said, user(text)]
    going_on = query(turns, "q-2", callers[1], fallback_price_usd)
    return asyncio.run(conclave.answer(going_on, "conclave", source="test"))


def who(result: Result) -> list[str]:
    return [str(arm) for arm in result.answer.contributors]


def test_it_stays_where_it_was_read(made: Maker) -> None:
    result = second_turn(made(), NEXT_SUM)
    assert who(result) == ["generalist"]
    [completion] = result.answer.completions
    assert completion.usage.cached_tokens > 200
    assert completion.cost_usd < PLAIN.cost_usd(completion.usage) / 4, "staying was cheaper"


def test_why_it_stays_is_told_and_recorded(made: Maker, ledger: Ledger) -> None:
    result = second_turn(made(), NEXT_SUM)
    told = result.decision.explain()
    [mine] = [row for row in told["scores"] if row["arm"] == "generalist"]
    n_tokens = mine["prefix"]["cached_tokens"]
    assert n_tokens == result.answer.completions[0].usage.cached_tokens
    assert mine["prefix"]["saves_usd"] == pytest.approx(n_tokens * 0.9e-6)
    assert f"of the conversation, generalist has read {n_tokens} tokens" in told["reason"]
    assert not any("prefix" in row for row in told["scores"] if row["arm"] != "generalist")
    [kept] = ledger.rows("SELECT scores FROM decisions WHERE query_id = 'q-2'")
    assert json.loads(kept["scores"])["scores"] == told["scores"]
    [call] = ledger.rows("SELECT cached_tokens FROM calls WHERE query_id = 'q-2'")
    assert call["cached_tokens"] == n_tokens


def test_it_moves_where_that_gains_more(made: Maker) -> None:
    result = second_turn(made(), WORD, fallback_price_usd=1e-2)
    assert result.decision.scores is not None
    assert result.decision.scores.prefixes
    assert "words" in who(result)


def test_the_dearer_a_wrong_answer_the_less_a_cache_holds_it(made: Maker) -> None:
    cheap, dear = (
        second_turn(made(), NEXT_SUM, fallback_price_usd=v).decision for v in (V, 10 * V)
    )
    assert cheap.choice is not None
    assert dear.choice is not None
    assert cheap.choice.plan.strategy == "single"
    assert dear.choice.plan.strategy != "single", "the specialist is asked, too"


def test_without_a_price_for_what_was_read_nothing_holds_it(made: Maker) -> None:
    result = second_turn(made(PLAIN), NEXT_SUM)
    assert result.decision.scores is not None
    assert not result.decision.scores.prefixes
    assert who(result) == ["arithmetic"]


def test_another_callers_conversation_is_not_known(made: Maker) -> None:
    """Not even to who has every word of it: whether somebody asked it is theirs alone."""
    result = second_turn(made(), NEXT_SUM, callers=("ann", "bob"))
    assert "prefix" not in str(result.decision.explain())
    assert who(result) == ["arithmetic"]


def test_a_server_that_keeps_nothing_is_found_out(made: Maker) -> None:
    system = made(keeps=False)
    turns = [MANUAL, user(SUM)]
    expected = []
    for i in range(30):
        asked = query(turns, f"q-{i}")
        n_tokens = system.conversations.expected_tokens(asked)
        expected.append(n_tokens.get(Arm("generalist"), 0.0))
        answer = asyncio.run(system.answer(asked, "generalist", source="test")).answer
        turns = [*turns, Message(role="assistant", content=answer.text), user(SUM)]
    assert expected[0] == 0, "a conversation that begins"
    assert expected[1] > 200
    assert expected[-1] < max(expected) / 1.5


def test_over_rest_clients_need_do_nothing(made: Maker) -> None:
    # Not entered as a context: nothing starts, and the ledger stays open.
    client = TestClient(create_app(made(), Config()))
    turns = [{"role": "system", "content": MANUAL.content}, {"role": "user", "content": SUM}]
    body = {"model": "generalist", "messages": turns}
    first = client.post("/v1/chat/completions", json=body).json()
    turns += [first["choices"][0]["message"], {"role": "user", "content": NEXT_SUM}]
    second = client.post("/v1/chat/completions", json={"messages": turns}).json()
    assert second["conclave"]["contributors"] == ["generalist"]
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > 200


def test_agents_conversations_stay_as_well(made: Maker) -> None:
    turns = [{"role": "system", "content": MANUAL.content}, {"role": "user", "content": SUM}]

    async def body() -> list[str]:
        async with in_process(made()) as client:
            asked = {"messages": turns, "model": "generalist"}
            first = (await client.call_tool("ask", asked)).structured_content
            said = {"role": "assistant", "content": first["text"]}
            going_on = [*turns, said, {"role": "user", "content": NEXT_SUM}]
            second = await client.call_tool("ask", {"messages": going_on})
            return list(second.structured_content["contributors"])

    assert asyncio.run(body()) == ["generalist"]


# The memory alone.


def answered(
    asked: Query, text: str = "4", *, usage: Usage | None = None, tools: tuple[ToolCall, ...] = ()
) -> Answer:
    call = Call(query_id="q", arm=Arm("a"), messages=asked.messages, sampling=asked.sampling)
    usage = usage or Usage(input_tokens=90, output_tokens=10)
    completion = Completion(call=call, text=text, usage=usage, tool_calls=tools)
    return Answer(
        text=text,
        answer=text,
        p_correct=None,
        contributors=(Arm("a"),),
        completions=(completion,),
        tool_calls=tools,
    )


def going_on(asked: Query, *more: Message) -> Query:
    return replace(asked, messages=(*asked.messages, *more))


ONE = query([user("2+2?")], "q")
NEXT = (Message(role="assistant", content="4\n"), user("And 3+3?"))


def test_what_was_read_and_said_is_remembered_of_each_arm() -> None:
    kept = Conversations()
    kept.answered(ONE, answered(ONE))
    assert kept.expected_tokens(going_on(ONE, *NEXT)) == {Arm("a"): 100.0}
    assert kept.expected_tokens(ONE) == {}
    other = Message(role="assistant", content="5")
    assert kept.expected_tokens(going_on(ONE, other, NEXT[1])) == {}


def test_it_is_forgotten_after_a_while_and_when_there_are_too_many() -> None:
    now = [0.0]
    kept = Conversations(max_conversations=2, kept_s=300, clock=lambda: now[0])
    asked = [query([user(f"{i}?")], f"q-{i}") for i in range(3)]
    for one in asked:
        kept.answered(one, answered(one))
    assert len(kept) == 2
    assert [bool(kept.expected_tokens(going_on(one, *NEXT))) for one in asked] == [
        False,
        True,
        True,
    ]
    now[0] = 300.0
    assert not any(kept.expected_tokens(going_on(one, *NEXT)) for one in asked)


def test_tools_that_are_called_are_part_of_it() -> None:
    asked = replace(ONE, sampling=Sampling(extra=(("tools", "[1]"),)))
    call = ToolCall(id="call-1", name="add", arguments="{}")
    kept = Conversations()
    kept.answered(asked, answered(asked, "", tools=(call,)))
    said = Message(role="assistant", content="", tool_calls=(call,))
    result = Message(role="tool", content="4", tool_call_id="call-1")
    assert kept.expected_tokens(going_on(asked, said, result)) == {Arm("a"): 100.0}
    others = replace(asked, sampling=Sampling(extra=(("tools", "[2]"),)))
    assert kept.expected_tokens(going_on(others, said, result)) == {}, "they stand before it all"


def test_guesses_failures_and_other_questions_are_not_remembered() -> None:
    kept = Conversations()
    kept.answered(ONE, answered(ONE, usage=Usage(input_tokens=90, estimated=True)))
    failed = answered(ONE)
    [completion] = failed.completions
    kept.answered(ONE, replace(failed, completions=(replace(completion, error="no"),)))
    part = replace(completion, call=replace(completion.call, messages=(user("2?"),)))
    kept.answered(ONE, replace(failed, completions=(part,)))
    assert len(kept) == 0
