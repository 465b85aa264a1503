"""What every kind of expert keeps of the protocol, whatever is behind it."""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experts.bundled import bundled_experts
from experts.cards import ExpertCard, Prices
from experts.expert import Expert, TellingExpert
from experts.fake import FakeExpert
from experts.remote.expert import RemoteExpert
from experts.remote.litellm_wire import LiteLLMWire
from experts.remote.openai_wire import OpenAIWire
from experts.values import Arm, Call, Completion, Delta, Message, Sampling
from tests.engines import lab, tokenizer
from tests.openai_stub import OpenAIStub, hanging

QUESTION, ANSWER = "What is the capital of France?", "Paris"
LONG_ANSWER = dict.fromkeys(("fake", "vllm", "openai", "litellm"), "Tell me more")
ANSWERS = {QUESTION: ANSWER, "Tell me more": "one two three four five six"}
PRICES = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
TOO_LONG = "word " * 300


@dataclass(frozen=True)
class Subject:
    """An expert, and how to make its next call hang."""

    kind: str
    expert: Expert
    hang: Callable[[], object]

    @property
    def longer(self) -> str:
        """A question whose answer has several tokens."""
        return LONG_ANSWER.get(self.kind, QUESTION)


def card(kind: str) -> ExpertCard:
    return ExpertCard(
        name="it", kind=kind, description="", prices=PRICES, context_tokens=200  # type: ignore[arg-type]
    )  # fmt: skip


@asynccontextmanager
async def subject(kind: str) -> AsyncIterator[Subject]:
    if kind == "fake":
        expert = FakeExpert("it", ANSWERS, prices=PRICES, context_tokens=200)
        yield Subject(kind, expert, lambda: setattr(expert, "_latency_s", 600.0))
    elif kind == "local":
        with ThreadPoolExecutor(1) as worker:
            [countries] = bundled_experts(worker, names=["countries"], load_usd_per_s=1.0)
            yield Subject(kind, countries, lambda: None)
    elif kind == "vllm":
        with (
            tempfile.TemporaryDirectory() as folder,
            lab(Path(folder), names=("countries",), answers=ANSWERS) as it,
        ):
            yield Subject(kind, it.experts["countries"], lambda: it.order("hang_in_call"))
    else:
        async with OpenAIStub(ANSWERS).running() as stub:
            wire = (
                OpenAIWire(stub.url, "words")
                if kind == "openai"
                else LiteLLMWire("openai/words", api_base=stub.url, api_key="sk-unused")
            )
            yield Subject(
                kind, RemoteExpert(card(kind), wire), lambda: stub.reactions.append(hanging)
            )


@pytest.fixture(
    params=[
        "fake",
        "local",
        "vllm",
        "openai",
        pytest.param(
            "litellm",
            marks=[
                pytest.mark.skipif(
                    importlib.util.find_spec("litellm") is None,
                    reason="the extra litellm is not installed",
                ),
                pytest.mark.filterwarnings("default"),  # LiteLLM's own are not ours to mend
            ],
        ),
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(text: str = QUESTION, timeout_s: float | None = None, **sampling: object) -> Call:
    return Call(
        query_id="q",
        arm=Arm("it"),
        messages=(Message(role="user", content=text),),
        sampling=Sampling(**sampling),
        timeout_s=timeout_s,
    )


def run(kind: str, body: Callable[[Subject], Awaitable[None]]) -> None:
    if kind == "vllm":
        tokenizer("countries")  # importing transformers takes longer than any test may

    async def inside() -> None:
        async with asyncio.timeout(20), subject(kind) as it:
            await body(it)

    asyncio.run(inside())


async def streamed(expert: Expert, call: Call) -> tuple[list[Delta], Completion]:
    *deltas, last = [piece async for piece in expert.stream(call)]
    assert all(isinstance(d, Delta) for d in deltas)
    assert isinstance(last, Completion)
    return deltas, last  # type: ignore[return-value]


def is_charged(completion: Completion, prices: Prices) -> bool:
    return completion.cost_usd == pytest.approx(
        prices.cost_usd(completion.usage, completion.load_s)
    )


def test_who_tells_of_each_call_tells_of_all_once(kind: str) -> None:
    async def body(it: Subject) -> None:
        if not isinstance(it.expert, TellingExpert):
            return
        told: dict[int, Completion] = {}

        def tell(i: int, completion: Completion) -> None:
            assert i not in told
            told[i] = completion

        calls = [ask(), ask("Something else?"), ask()]
        await it.expert.complete_each(calls, tell)
        assert [told[i].call for i in range(3)] == calls
        assert told[0].answer == ANSWER
        it.hang()
        told.clear()
        work = asyncio.create_task(it.expert.complete_each([ask()], tell))
        await asyncio.sleep(0.05)
        work.cancel()
        await work
        assert told[0].finish_reason == "cancelled"

    run(kind, body)


def test_a_batch_is_answered_in_order_and_charged(kind: str) -> None:
    async def body(it: Subject) -> None:
        calls = [ask(), ask("Something else?"), ask()]
        first, other, last = await it.expert.complete(calls)
        assert [first.answer, last.answer] == [ANSWER, ANSWER]
        assert [c.call for c in (first, other, last)] == calls
        for completion in (first, other, last):
            assert completion.ok
            assert completion.usage.input_tokens > 0
            assert completion.usage.output_tokens > 0
            assert completion.n_batch == 3
            assert is_charged(completion, it.expert.card.prices)
        assert first.cost_usd > 0
        assert await it.expert.complete([]) == []

    run(kind, body)


def test_one_that_fails_loses_none_of_its_neighbours(kind: str) -> None:
    async def body(it: Subject) -> None:
        failed, fine = await it.expert.complete([ask(TOO_LONG), ask()])
        assert failed.error_code == "context_too_long"
        assert failed.finish_reason == "error"
        assert failed.error
        assert fine.answer == ANSWER

    run(kind, body)


def test_a_stream_says_the_same_in_pieces_and_ends_in_its_completion(kind: str) -> None:
    async def body(it: Subject) -> None:
        deltas, last = await streamed(it.expert, ask(it.longer))
        [whole] = await it.expert.complete([ask(it.longer)])
        assert len(deltas) > 1, last.error
        assert "".join(d.text for d in deltas) == last.text == whole.text
        assert last.usage == whole.usage
        assert is_charged(last, it.expert.card.prices)

    run(kind, body)


def test_a_stream_that_fails_ends_in_a_failed_completion(kind: str) -> None:
    async def body(it: Subject) -> None:
        deltas, last = await streamed(it.expert, ask(TOO_LONG))
        assert (deltas, last.error_code) == ([], "context_too_long")

    run(kind, body)


def test_max_tokens_and_stop_sequences_are_kept(kind: str) -> None:
    if kind == "fake":
        pytest.skip("a scripted expert knows no stop sequences")

    async def body(it: Subject) -> None:
        [short] = await it.expert.complete([ask(it.longer, max_tokens=2)])
        assert (short.finish_reason, short.usage.output_tokens) == ("length", 2)
        [cut] = await it.expert.complete([ask(stop=("ris",))])
        assert (cut.finish_reason, cut.text) == ("stop", "Pa")

    run(kind, body)


def test_a_deadline_fails_the_call(kind: str) -> None:
    async def body(it: Subject) -> None:
        it.hang()
        timeout_s = 0.0 if kind == "local" else 0.05
        [late] = await it.expert.complete([ask(timeout_s=timeout_s)])
        assert (late.error_code, late.finish_reason) == ("timeout", "error")
        assert is_charged(late, it.expert.card.prices)

    run(kind, body)


def test_cancelling_hands_over_what_was_done(kind: str) -> None:
    async def body(it: Subject) -> None:
        await it.expert.complete([ask()])  # loaded, imported, connected
        it.hang()
        task = asyncio.ensure_future(it.expert.complete([ask(temperature=2.0)]))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        [completion] = await task
        assert completion.finish_reason in ("cancelled", "stop")  # a local model may be quicker
        assert is_charged(completion, it.expert.card.prices)

    run(kind, body)


def test_cancelling_a_stream_makes_its_next_piece_the_bill(kind: str) -> None:
    if kind == "local":
        pytest.skip("a model that fast cannot be caught in the middle; tests/experts/test_local.py")

    async def body(it: Subject) -> None:
        it.hang()
        pieces: list[Delta | Completion] = []

        async def listen() -> None:
            async for piece in it.expert.stream(ask()):
                pieces.append(piece)

        task = asyncio.ensure_future(listen())
        while not pieces and kind != "fake":
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        last = pieces[-1]
        assert isinstance(last, Completion)
        assert last.finish_reason == "cancelled"
        assert last.cost_usd > 0

    run(kind, body)


def test_closing_a_stream_stops_the_work(kind: str) -> None:
    async def body(it: Subject) -> None:
        stream = it.expert.stream(ask())
        await anext(stream)
        await stream.aclose()
        [fine] = await it.expert.complete([ask()])
        assert fine.answer == ANSWER

    run(kind, body)


def test_an_expert_outlives_its_event_loop() -> None:
    """For kinds with connections of their own: the command line runs a loop a command."""
    wire = OpenAIWire("http://127.0.0.1:9/v1", "words")
    expert = RemoteExpert(card("openai"), wire, sleep=lambda s: asyncio.sleep(0))
    for _ in range(2):
        [completion] = asyncio.run(expert.complete([ask()]))
        assert completion.error_code == "unreachable"


def test_calls_keep_their_own_arm(kind: str) -> None:
    async def body(it: Subject) -> None:
        call = replace(ask(), arm=Arm("it", "direct"), sample=2)
        [completion] = await it.expert.complete([call])
        assert completion.call is call or completion.call == call

    run(kind, body)
