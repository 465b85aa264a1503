"""Request bodies, checked: what clients send, turned into queries.

Fields are OpenAI's. What Conclave does not do is accepted only at the value that asks for nothing
(``presence_penalty: 0``); anything else is refused by name rather than ignored.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from experts.cards import FORCED_TOOL_EXTRA, OPENAI_EXTRA
from experts.errors import LimitReached, UserError
from experts.values import Message, Query, Sampling
from orchestrator.config import Config
from orchestrator.keys.asking import wishes_of
from orchestrator.keys.key import VirtualKey
from orchestrator.queries import Wishes, make_query
from orchestrator.rest.messages import MAX_MESSAGES, Body, ChatMessage, check_order
from orchestrator.rest.neutral import without_neutral
from orchestrator.rest.tools import MAX_TOOLS, Choice, Tool, tool_fields

MAX_CHOICES = 8
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0, 0.0, None),
    "frequency_penalty": (0, 0.0, None),
    "logit_bias": ({}, None),
    "logprobs": (False, None),
    "top_logprobs": (0, None),
    "functions": ([], None),
    "function_call": ("auto", "none", None),
    "response_format": ({"type": "text"}, None),
    "store": (False, None),
    "service_tier": ("auto", "default", None),
}
"""OpenAI fields that not every expert takes, or none does yet, and the values at which they ask for
nothing."""
_PLAIN = frozenset(
    {
        "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed",
        "stop", "n", "stream", "stream_options", "user", "metadata", "conclave",
    }
)  # fmt: skip
"""Fields that need no second look: most requests have no other."""
_INSTEAD = {
    "functions": "; send them as tools",
    "function_call": "; send it as tool_choice, with tools",
}
"""What to do in place of what is refused."""


class InvalidField(UserError):
    """A value that this server does not take; ``param`` is its field."""

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message)
        self.param = param


class StreamOptions(Body):
    include_usage: bool = False


class Extension(Body):
    """What only Conclave understands; OpenAI's client sends it as ``extra_body``."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    fallback_price_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """V: what a wrong answer costs you; overrides the policy's."""
    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Upper bound in tokens' dollars, of all choices together; a call that might pass it is not
    made."""
    max_calls: int | None = Field(default=None, ge=1)
    """Upper bound of calls to experts."""
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds, for each call."""
    experts: list[str] | None = Field(default=None, min_length=1)
    """Only these may be asked."""

    def wishes(self, *, caller: str = "") -> Wishes:
        if not self.model_fields_set:
            return Wishes(caller=caller)
        return Wishes(
            **{name: getattr(self, name) for name in Extension.model_fields}, caller=caller
        )


class _Asking(Body):
    """What a chat and a routing request share."""

    model: str = Field(default="conclave", min_length=1)
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    """Only experts that can call tools are asked then."""
    tool_choice: Choice | None = None
    parallel_tool_calls: bool | None = Field(default=None, strict=True)
    conclave: Extension = Field(default_factory=Extension)

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, body: Any) -> Any:
        """What asks for nothing is dropped, what an expert may take is kept."""
        if not isinstance(body, dict) or _PLAIN.issuperset(body):
            return body
        kept = {
            name: value
            for name, value in body.items()
            if name in OPENAI_EXTRA & set(cls.model_fields) and value not in _NEUTRAL.get(name, ())
        }
        rest = {name: value for name, value in body.items() if name not in kept}
        return without_neutral(rest, _NEUTRAL, _INSTEAD) | kept

    @model_validator(mode="after")
    def _in_order(self) -> _Asking:
        check_order(self.messages)
        if not self.model_fields_set.isdisjoint(OPENAI_EXTRA):
            self.tool_fields()
        return self

    def tool_fields(self) -> dict[str, Any]:
        return tool_fields(self.tools or (), self.tool_choice, self.parallel_tool_calls)

    def extra(self) -> tuple[tuple[str, str], ...]:
        """Fields that are handed on, as JSON, in the order of their names."""
        if self.model_fields_set.isdisjoint(OPENAI_EXTRA):
            return ()
        asked = {name: getattr(self, name, None) for name in OPENAI_EXTRA - FORCED_TOOL_EXTRA}
        asked |= self.tool_fields()
        told = [(name, asked[name]) for name in sorted(asked)]
        return tuple((name, json.dumps(value)) for name, value in told if value is not None)

    def values(self) -> tuple[Message, ...]:
        """The messages as values."""
        return tuple(message.value() for message in self.messages)

    @property
    def target(self) -> str:
        """Policy or expert: ``conclave/cheap`` is the policy ``cheap``."""
        return self.model.removeprefix("conclave/")


class RouteRequest(_Asking):
    """A question to be routed, not answered."""


class ChatRequest(_Asking):
    """OpenAI's chat completion request."""

    stream: bool = Field(default=False, strict=True)
    """Null is the default, here and below, as at OpenAI."""
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES, strict=True)
    max_tokens: int | None = Field(default=None, ge=1, strict=True)
    max_completion_tokens: int | None = Field(default=None, ge=1, strict=True)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    user: str | None = None
    """Calls of several users take turns on engines that Conclave manages; it is not recorded."""
    metadata: dict[str, str] | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    """Of this and what follows, only experts that take it are asked."""
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = Field(default=None, strict=True)
    top_logprobs: int | None = Field(default=None, ge=0, le=20, strict=True)
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    """Of vLLM, as are the next."""
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    @field_validator("stream", "n", mode="before")
    @classmethod
    def _null_is_default(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.model_fields[str(info.field_name)].default if value is None else value

    @model_validator(mode="after")
    def _consistent(self) -> ChatRequest:
        if self.stream and self.n > 1:
            raise ValueError("n: must be 1 when stream is true")
        if self.stream and self.logprobs:
            raise ValueError("logprobs: not told while streaming; leave one of the two out")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: needs logprobs to be true")
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > 4 or not all(stops):
            raise ValueError("stop: at most 4 sequences, none of them empty")
        return self

    def sampling(self, config: Config) -> Sampling:
        """Greedy unless a temperature is asked for. Raises InvalidField."""
        asked = self.max_completion_tokens or self.max_tokens
        if asked is not None and asked > config.limits.max_tokens:
            raise InvalidField(
                f"max_tokens: {asked} is over the configured limit of {config.limits.max_tokens}",
                param="max_tokens",
            )
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=asked or config.limits.max_tokens,
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            seed=(self.seed or 0) % 2**31,
            stop=stops,
            extra=self.extra(),
        )


class RunRequest(_Asking):
    """A question for a durable run."""


class HumanAnswer(Body):
    """What a person answers."""

    answer: str


class FeedbackRequest(Body):
    """A verdict on an answer."""

    decision_id: str = Field(min_length=1)
    correct: bool | None = None
    score: float | None = Field(default=None, ge=0, le=1, strict=True)
    comment: str | None = Field(default=None, max_length=2000)

    @model_validator(mode="after")
    def _one_verdict(self) -> FeedbackRequest:
        if (self.correct is None) == (self.score is None):
            raise ValueError("give either correct (true or false) or score (0 to 1)")
        return self

    @property
    def verdict(self) -> float:
        return float(bool(self.correct)) if self.score is None else self.score


def to_query(
    body: _Asking,
    config: Config,
    sampling: Sampling | None = None,
    *,
    key: VirtualKey | None = None,
) -> Query:
    """The query that a request asks, within the server's limits, its key's, and its own. Raises
    Forbidden for whom the key may not ask."""
    n, wishes = 1, body.conclave.wishes()
    if isinstance(body, ChatRequest):
        n, wishes = body.n, body.conclave.wishes(caller=body.user or "")
    wishes = wishes_of(key, body.target, wishes)
    if n > 1:  # a request's limits are for all of its choices together
        if wishes.max_calls is not None and wishes.max_calls < n:
            raise LimitReached(f"n={n} needs a call a choice, and max_calls is {wishes.max_calls}.")
        wishes = replace(
            wishes,
            max_calls=wishes.max_calls and wishes.max_calls // n,
            max_cost_usd=wishes.max_cost_usd and wishes.max_cost_usd / n,
        )
    sampling = sampling or Sampling(max_tokens=config.limits.max_tokens, extra=body.extra())
    return make_query(config, body.target, body.values(), wishes, sampling)
