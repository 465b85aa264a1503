"""Experts over HTTP: retries, the bill of what went wrong, refusals, and keys that stay secret."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec

import pytest

from experts.cards import ExpertCard, Prices
from experts.remote.chat import meaning_of
from experts.remote.expert import RemoteExpert
from experts.remote.litellm_wire import LiteLLMWire
from experts.remote.openai_wire import OpenAIWire
from experts.remote.retries import retry_after_s, wait_before_retry
from experts.remote.wire import WireError
from experts.values import Arm, Call, Completion, Delta, Message, Sampling
from tests.openai_stub import (
    OpenAIStub,
    Reaction,
    breaking_off,
    failing,
    hanging,
    hanging_up,
    saying,
)

CARD = ExpertCard(
    name="it",
    kind="openai",
    description="",
    prices=Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0),
    context_tokens=1000,
)
ANSWERS = {"What is the capital of France?": "Paris", "Tell me more": "It is well known"}
CALL = Call(
    query_id="q",
    arm=Arm("it"),
    messages=(Message(role="user", content="What is the capital of France?"),),
    sampling=Sampling(max_tokens=20),
)


class Waits(list[float]):
    """What the expert would have slept."""

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)


def asked(
    stub: OpenAIStub,
    calls: Sequence[Call] = (CALL,),
    *,
    card: ExpertCard = CARD,
    waits: Waits | None = None,
    max_concurrent: int = 16,
    timeout_s: float = 600.0,
    **wire: object,
) -> list[Completion]:
    async def inside() -> list[Completion]:
        async with stub.running():
            expert = RemoteExpert(
                card,
                OpenAIWire(stub.url, "words", **wire),
                max_concurrent=max_concurrent,
                timeout_s=timeout_s,
                sleep=(Waits() if waits is None else waits).sleep,
            )
            return await expert.complete(calls)

    return asyncio.run(inside())


def streamed(stub: OpenAIStub, call: Call = CALL) -> list[Delta | Completion]:
    async def inside() -> list[Delta | Completion]:
        async with stub.running():
            expert = RemoteExpert(CARD, OpenAIWire(stub.url, "words"), sleep=Waits().sleep)
            return [piece async for piece in expert.stream(call)]

    return asyncio.run(inside())


def test_it_asks_for_what_the_call_says_and_reads_what_comes_back() -> None:
    stub = OpenAIStub(ANSWERS)
    [completion] = asked(stub)
    assert stub.requests == [
        {
            "model": "words",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "max_tokens": 20,
            "temperature": 0.0,
            "seed": 0,
            "logprobs": True,
        }
    ]
    assert (completion.text, completion.logprob) == ("Paris", -0.1)
    assert (completion.usage.input_tokens, completion.usage.output_tokens) == (6, 1)
    assert not completion.usage.estimated
    assert completion.cost_usd == pytest.approx(8e-6)


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({"cached_tokens": 4}, 4),
        ({"cached_tokens": 400}, 6),  # of 6 tokens that were sent
        ({"cached_tokens": -1}, 0),
        ({"cached_tokens": None, "audio_tokens": 0}, 0),
        (None, 0),
        ("all", 0),
    ],
)
def test_what_the_server_had_in_its_cache_is_charged_at_its_own_price(
    details: object, cached: int
) -> None:
    prices = replace(CARD.prices, cached_input_usd_per_mtok=0.25)
    usage = {"prompt_tokens": 6, "completion_tokens": 1, "prompt_tokens_details": details}
    choice = {"message": {"content": "Paris"}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice], "usage": usage}).encode()
    [completion] = asked(OpenAIStub({}, saying(body)), card=replace(CARD, prices=prices))
    assert completion.usage.cached_tokens == cached
    assert completion.cost_usd == pytest.approx((6 - cached * 0.75 + 2) * 1e-6)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again_for_free(status: int) -> None:
    waits = Waits()
    [completion] = asked(OpenAIStub(ANSWERS, failing(status), failing(status)), waits=waits)
    assert completion.answer == "Paris"
    assert completion.cost_usd == pytest.approx(8e-6)
    assert 0.25 <= waits[0] <= 0.5 <= waits[1] <= 1.0


def test_it_waits_as_long_as_the_server_asks_and_no_longer_than_the_call_allows() -> None:
    waits = Waits()
    [completion] = asked(OpenAIStub(ANSWERS, failing(429, retry_after="7")), waits=waits)
    assert (completion.answer, waits) == ("Paris", [7.0])
    waits = Waits()
    hurried = Call(
        query_id="q", arm=Arm("it"), messages=CALL.messages, sampling=Sampling(), timeout_s=5
    )
    [refused] = asked(OpenAIStub(ANSWERS, failing(429, retry_after="7")), [hurried], waits=waits)
    assert (refused.error, waits) == ("not now (HTTP 429)", [])


def test_a_server_that_stays_down_fails_the_call_and_says_how_often_it_was_asked() -> None:
    [completion] = asked(OpenAIStub(ANSWERS, *[failing(503)] * 9))
    assert completion.error == "not now (HTTP 503) (4 attempts)"
    assert completion.cost_usd == 0


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (401, "Incorrect API key", "auth"),
        (403, "No", "auth"),
        (404, "The model `words` does not exist", "unreachable"),
        (400, "The prompt is too long: 300 tokens > 200 maximum", "context_too_long"),
        (422, "temperature must be below 1", "failed"),
        (400, "The response was filtered: content management policy", "refused"),
        (403, "Your input was flagged", "refused"),
        (403, "Your account has been flagged", "auth"),
    ],
)
def test_what_another_attempt_cannot_mend_is_not_tried_again(
    status: int, message: str, code: str
) -> None:
    stub = OpenAIStub(ANSWERS, failing(status, message))
    [completion] = asked(stub)
    assert (completion.error_code, len(stub.requests)) == (code, 1)
    assert message in str(completion.error)


@pytest.mark.parametrize(
    "reaction",
    [hanging_up, saying(b"<html>"), saying(b'{"choices": "?"}')],
    ids=["hangs up", "says HTML", "says nonsense"],
)
def test_an_attempt_that_may_have_been_paid_is_charged_at_its_most(reaction: Reaction) -> None:
    [completion] = asked(OpenAIStub(ANSWERS, reaction))
    assert completion.answer == "Paris"
    assert completion.usage.estimated
    assert completion.cost_usd == pytest.approx(CARD.most_usd(CALL) + 8e-6)


@pytest.mark.parametrize(
    ("usage", "charged"),
    [(b"null", None), (b'{"prompt_tokens": -1, "completion_tokens": 2}', None), (b"{}", None)],
)
def test_missing_usage_is_estimated_never_free(usage: bytes, charged: None) -> None:
    body = b'{"choices": [{"message": {"content": "Paris"}}], "usage": %b}' % usage
    [completion] = asked(OpenAIStub(ANSWERS, saying(body)))
    most = CARD.most_usage(CALL)
    assert completion.ok
    assert completion.usage.estimated
    assert completion.usage.input_tokens == most.input_tokens
    assert completion.usage.output_tokens == len("Paris")


@pytest.mark.parametrize("n_tokens", ["1001", "1" + 30 * "0", "1" + 15 * "0"])
def test_more_tokens_than_the_context_holds_are_not_believed(n_tokens: str) -> None:
    usage = f'{{"prompt_tokens": {n_tokens}, "completion_tokens": 1}}'.encode()
    body = b'{"choices": [{"message": {"content": "Paris"}}], "usage": %b}' % usage
    [completion] = asked(OpenAIStub(ANSWERS, saying(body)))
    assert completion.ok
    assert completion.usage.estimated
    assert completion.cost_usd <= CARD.most_usd(CALL)


@pytest.mark.parametrize("logprob", [b"-Infinity", b"NaN", b"-1e999"])
def test_a_logprob_that_is_no_number_is_none(logprob: bytes) -> None:
    content = b'{"content": [{"logprob": -0.1}, {"logprob": %b}]}' % logprob
    body = b'{"choices": [{"message": {"content": "Paris"}, "logprobs": %b}]}' % content
    [completion] = asked(OpenAIStub(ANSWERS, saying(body)))
    assert (completion.text, completion.logprob) == ("Paris", None)


@pytest.mark.parametrize("reaction", [hanging_up, saying(b"<html>")], ids=["hangs up", "says HTML"])
def test_an_attempt_that_may_be_paid_is_not_repeated_past_what_is_reserved(
    reaction: Reaction,
) -> None:
    most = CARD.most_usd(CALL)
    stub = OpenAIStub(ANSWERS, *[reaction] * 3)
    [completion] = asked(stub, [replace(CALL, max_cost_usd=1.5 * most)])
    assert (completion.error_code, len(stub.requests)) == ("failed", 1)
    assert completion.cost_usd == pytest.approx(most)
    enough = replace(CALL, max_cost_usd=4 * most)
    assert asked(OpenAIStub(ANSWERS, *[reaction] * 3), [enough])[0].answer == "Paris"


def test_a_refusal_for_free_is_repeated_within_what_is_reserved() -> None:
    call = replace(CALL, max_cost_usd=CARD.most_usd(CALL))
    assert asked(OpenAIStub(ANSWERS, *[failing(503)] * 3), [call])[0].answer == "Paris"


def test_an_empty_reply_is_a_failure_that_is_paid() -> None:
    body = b'{"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 0}}'
    [completion] = asked(OpenAIStub(ANSWERS, saying(body)))
    assert completion.error
    assert completion.cost_usd == pytest.approx(1e-5)


@pytest.mark.parametrize("refused", [("logprobs",), ("seed", "logprobs")])
def test_a_server_that_knows_no_logprobs_is_asked_without(refused: tuple[str, ...]) -> None:
    stub = OpenAIStub(ANSWERS, refuses=refused)
    first, second = asked(stub, [CALL, CALL], max_concurrent=1)
    assert (first.answer, second.answer) == ("Paris", "Paris")
    assert first.logprob is None
    assert len(stub.requests) == 2 + len(refused)


def test_a_server_that_wants_the_other_name_for_the_limit_gets_it() -> None:
    refusal = failing(400, "Unsupported 'max_tokens'. Use 'max_completion_tokens' instead.")
    stub = OpenAIStub(ANSWERS, refusal)
    assert asked(stub)[0].answer == "Paris"
    assert "max_tokens" not in stub.requests[-1]
    assert stub.requests[-1]["max_completion_tokens"] == 20


def test_extra_fields_are_sent_and_null_leaves_one_out() -> None:
    stub = OpenAIStub(ANSWERS)
    asked(stub, extra_body={"reasoning_effort": "low", "temperature": None})
    assert stub.requests[0]["reasoning_effort"] == "low"
    assert "temperature" not in stub.requests[0]


def test_no_more_requests_at_once_than_allowed() -> None:
    stub = OpenAIStub(ANSWERS)
    completions = asked(stub, [CALL] * 20, max_concurrent=3)
    assert [c.answer for c in completions] == ["Paris"] * 20
    assert 1 <= stub.most_at_once <= 3
    assert {c.n_batch for c in completions} == {3}


def test_a_server_that_says_nothing_is_given_up_and_charged() -> None:
    [completion] = asked(OpenAIStub(ANSWERS, hanging), timeout_s=0.05)
    assert completion.error_code == "timeout"
    assert completion.cost_usd == pytest.approx(CARD.most_usd(CALL))


def test_a_stream_that_breaks_off_keeps_its_words_and_is_not_begun_anew() -> None:
    stub = OpenAIStub(ANSWERS, breaking_off)
    *deltas, last = streamed(stub)
    assert [d.text for d in deltas] == ["It is", " well"]
    assert isinstance(last, Completion)
    assert (last.text, last.finish_reason, len(stub.requests)) == ("It is well", "error", 1)
    assert last.usage.estimated
    assert last.usage.output_tokens == len("It is well")


def test_a_stream_that_was_refused_before_its_first_word_is_tried_again() -> None:
    last = streamed(OpenAIStub(ANSWERS, failing(503)))[-1]
    assert isinstance(last, Completion)
    assert last.answer == "Paris"
    assert not last.usage.estimated


def test_an_error_inside_of_a_stream_is_its_failure() -> None:
    async def react(stub: object, request: object, body: object) -> object:
        from tests.openai_stub import open_stream, send_event

        response = await open_stream(request)
        await send_event(response, {"error": {"message": "out of memory"}})
        return response

    [last] = streamed(OpenAIStub(ANSWERS, react))
    assert "out of memory" in str(last.error)


def test_the_key_is_sent_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    stub = OpenAIStub(ANSWERS, failing(401, "Incorrect API key provided: sk-verysecret."))
    [completion] = asked(stub, api_key="sk-verysecret")
    assert stub.keys == ["Bearer sk-verysecret"]
    assert completion.error == "Incorrect API key provided: ***. (HTTP 401)"
    assert "verysecret" not in caplog.text


def test_a_redirect_is_not_followed_with_the_key() -> None:
    stub = OpenAIStub(ANSWERS, failing(307, location="http://127.0.0.1:9/v1/chat/completions"))
    [completion] = asked(stub, api_key="sk-verysecret")
    assert "HTTP 307" in str(completion.error)


def test_nobody_there_is_free_and_told() -> None:
    expert = RemoteExpert(CARD, OpenAIWire("http://127.0.0.1:9/v1", "words"), sleep=Waits().sleep)
    [completion] = asyncio.run(expert.complete([CALL]))
    assert (completion.error_code, completion.cost_usd) == ("unreachable", 0)
    assert "http://127.0.0.1:9/v1" in str(completion.error)


def test_retry_after_may_be_a_date() -> None:
    now = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
    assert retry_after_s("Tue, 01 Jan 2030 12:00:09 GMT", now) == 9
    assert retry_after_s("Tue, 01 Jan 2030 11:00:00 GMT", now) == 0
    assert [retry_after_s(h) for h in ("", "soon", "nan", "inf")] == [None] * 4


def test_a_server_that_wants_to_be_left_alone_for_an_hour_is() -> None:
    assert wait_before_retry(WireError("", is_transient=True, retry_after_s=3600), 1) is None


def test_an_account_without_money_is_not_a_busy_server() -> None:
    assert meaning_of(429, "You exceeded your quota", "insufficient_quota") == ("auth", False)


def test_calls_that_have_not_begun_wait_when_one_is_told_to() -> None:
    waits = Waits()
    stub = OpenAIStub(ANSWERS, failing(429, retry_after="7"))
    completions = asked(stub, [CALL] * 3, waits=waits, max_concurrent=1)
    assert [c.answer for c in completions] == ["Paris"] * 3
    assert waits[:1] == [7.0]
    assert len(waits) == 3
    assert all(6 < s <= 7 for s in waits)


def test_each_call_is_told_of_when_it_is_done() -> None:
    told: list[int] = []

    async def ask() -> None:
        async with OpenAIStub(ANSWERS, hanging).running() as stub:
            expert = RemoteExpert(CARD, OpenAIWire(stub.url, "words"))
            fast = asyncio.Event()

            def tell(i: int, completion: Completion) -> None:
                told.append(i)
                if completion.ok:
                    fast.set()

            work = asyncio.create_task(expert.complete_each([CALL, CALL], tell))
            await fast.wait()
            assert len(told) == 1  # the other one hangs
            work.cancel()
            await work

    asyncio.run(ask())
    assert sorted(told) == [0, 1]


def test_what_telling_raises_is_raised() -> None:
    async def ask() -> None:
        async with OpenAIStub(ANSWERS).running() as stub:
            expert = RemoteExpert(CARD, OpenAIWire(stub.url, "words"))

            def tell(i: int, completion: Completion) -> None:
                raise OSError("the disk is full")

            await expert.complete_each([CALL], tell)

    with pytest.raises(OSError, match="the disk is full"):
        asyncio.run(ask())


def with_extra(**fields: object) -> Call:
    extra = tuple((name, json.dumps(value)) for name, value in fields.items())
    return replace(CALL, sampling=replace(CALL.sampling, extra=extra))


def test_guided_output_and_penalties_are_handed_on_as_they_came() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    stub = OpenAIStub(ANSWERS)
    asked(stub, [with_extra(response_format=schema, presence_penalty=0.5)])
    assert stub.requests[0]["response_format"] == schema
    assert stub.requests[0]["presence_penalty"] == 0.5


def test_logprobs_of_tokens_are_kept_where_they_are_asked_for() -> None:
    plain, wanted = asked(OpenAIStub(ANSWERS), [CALL, with_extra(logprobs=True)])
    assert plain.token_logprobs is None
    [token] = json.loads(str(wanted.token_logprobs))
    assert (token["token"], token["logprob"], token["top_logprobs"]) == ("Paris", -0.1, [])


def test_what_was_asked_for_by_name_is_never_left_out() -> None:
    stub = OpenAIStub(ANSWERS, refuses=("logprobs",))
    [completion] = asked(stub, [with_extra(logprobs=True)])
    assert "Unknown field 'logprobs'" in str(completion.error)
    assert len(stub.requests) == 1


@pytest.mark.skipif(find_spec("litellm") is None, reason="the extra litellm is not installed")
@pytest.mark.filterwarnings("default")  # LiteLLM's own are not ours to mend
def test_litellm_logs_no_key_and_drops_nothing_that_was_asked_for(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    async def ask() -> list[Completion]:
        refusal = failing(401, "Incorrect API key provided: sk-verysecret.")
        async with OpenAIStub(ANSWERS, refusal).running() as stub:
            wire = LiteLLMWire("openai/words", api_base=stub.url, api_key="sk-verysecret")
            expert = RemoteExpert(CARD, wire, max_concurrent=1, sleep=Waits().sleep)
            return await expert.complete([CALL, CALL, with_extra(guided_regex="[a-z]+")])

    refused, answered, not_taken = asyncio.run(ask())
    assert (refused.error_code, answered.answer) == ("auth", "Paris")
    assert "guided_regex: LiteLLM says" in str(not_taken.error)
    told = caplog.text + "".join(capfd.readouterr()) + str(refused.error)
    assert "verysecret" not in told
