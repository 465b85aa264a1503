"""Request bodies, checked: what clients send, turned into queries.

Fields are OpenAI's. What Conclave does not do is accepted only at the value that asks for nothing
(``presence_penalty: 0``); anything else is refused by name rather than ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from experts.values import Limits, Message, Query, Sampling
from orchestrator.conclave import new_query_id
from orchestrator.config import Config

_Number = TypeVar("_Number", int, float)

MAX_MESSAGES = 200
MAX_CHOICES = 8
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0, 0.0, None),
    "frequency_penalty": (0, 0.0, None),
    "logit_bias": ({}, None),
    "logprobs": (False, None),
    "top_logprobs": (0, None),
    "tools": ([], None),
    "tool_choice": ("none", "auto", None),
    "functions": ([], None),
    "response_format": ({"type": "text"}, None),
    "store": (False, None),
    "service_tier": ("auto", "default", None),
    "parallel_tool_calls": (True, False, None),
}
"""OpenAI fields that are not supported yet, and the values at which they ask for nothing."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _plain_text(content: Any) -> Any:
    """Content given as text parts, joined; other kinds of parts are refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        if not (isinstance(part, dict) and part.get("type") == "text" and "text" in part):
            raise ValueError("only text parts are supported: {'type': 'text', 'text': '...'}")
        texts.append(str(part["text"]))
    return "".join(texts)


class ChatMessage(_Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_plain_text)]
    name: str | None = None


class StreamOptions(_Body):
    include_usage: bool = False


class Extension(_Body):
    """What only Conclave understands; OpenAI's client sends it as ``extra_body``."""

    fallback_price_usd: float | None = Field(default=None, gt=0)
    """V: what a wrong answer costs you; overrides the policy's."""
    max_cost_usd: float | None = Field(default=None, gt=0)
    max_calls: int | None = Field(default=None, ge=1)
    experts: list[str] | None = Field(default=None, min_length=1)
    """Only these may be asked."""


class _Asking(_Body):
    """What a chat and a routing request share."""

    model: str = Field(default="conclave", min_length=1)
    messages: list[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    conclave: Extension = Extension()

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        kept = {}
        for key, value in body.items():
            if key not in _NEUTRAL:
                kept[key] = value
            elif value not in _NEUTRAL[key]:
                raise ValueError(f"{key}={value!r} is not supported; leave {key!r} out")
        return kept

    @model_validator(mode="after")
    def _in_order(self) -> _Asking:
        """System messages first, then user and assistant in turn, a user last."""
        roles = ["system" if m.role == "developer" else m.role for m in self.messages]
        talk = roles[next((i for i, r in enumerate(roles) if r != "system"), len(roles)) :]
        if "system" in talk:
            raise ValueError("messages: system messages must come before all others")
        expected = ["user", "assistant"] * len(talk)
        if talk != expected[: len(talk)] or not talk or talk[-1] != "user":
            raise ValueError(
                "messages: after the system messages, user and assistant must take turns, and a "
                f"user message must be first and last; got {', '.join(roles)}"
            )
        if not self.messages[-1].content.strip():
            raise ValueError("messages: the last user message is empty; ask something")
        return self

    def values(self) -> tuple[Message, ...]:
        """The messages as values."""
        return tuple(
            Message(role="system" if m.role == "developer" else m.role, content=m.content)
            for m in self.messages
        )

    @property
    def target(self) -> str:
        """Policy or expert: ``conclave/cheap`` is the policy ``cheap``."""
        return self.model.removeprefix("conclave/")


class RouteRequest(_Asking):
    """A question to be routed, not answered."""


class ChatRequest(_Asking):
    """OpenAI's chat completion request."""

    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    stop: str | list[str] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ChatRequest:
        if self.stream and self.n > 1:
            raise ValueError("n: must be 1 when stream is true")
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > 4 or not all(stops):
            raise ValueError("stop: at most 4 sequences, none of them empty")
        return self

    def sampling(self, config: Config) -> Sampling:
        """Greedy unless a temperature is asked for."""
        asked = self.max_completion_tokens or self.max_tokens
        if asked is not None and asked > config.limits.max_tokens:
            raise ValueError(
                f"max_tokens: {asked} is over this server's limit of {config.limits.max_tokens}"
            )
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=asked or min(Sampling().max_tokens, config.limits.max_tokens),
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            seed=self.seed or 0,
            stop=stops,
        )


class FeedbackRequest(_Body):
    """A verdict on an answer."""

    decision_id: str = Field(min_length=1)
    correct: bool | None = None
    score: float | None = Field(default=None, ge=0, le=1)
    comment: str | None = Field(default=None, max_length=2000)

    @model_validator(mode="after")
    def _one_verdict(self) -> FeedbackRequest:
        if (self.correct is None) == (self.score is None):
            raise ValueError("give either correct (true or false) or score (0 to 1)")
        return self

    @property
    def verdict(self) -> float:
        return float(bool(self.correct)) if self.score is None else self.score


def to_query(body: _Asking, config: Config, sampling: Sampling | None = None) -> Query:
    """The query that a request asks, within the server's limits and its own."""
    policy = config.all_policies.get(body.target)
    own = body.conclave
    server = config.limits
    return Query(
        query_id=new_query_id(),
        messages=body.values(),
        fallback_price_usd=own.fallback_price_usd or (policy.fallback_price_usd if policy else 1.0),
        limits=Limits(
            max_cost_usd=_least(own.max_cost_usd, server.max_cost_usd),
            max_calls=_least(own.max_calls, server.max_calls),
            timeout_s=server.timeout_s,
            experts=frozenset(own.experts) if own.experts else None,
        ),
        sampling=sampling or Sampling(),
    )


def _least(a: _Number | None, b: _Number | None) -> _Number | None:
    known = [x for x in (a, b) if x is not None]
    return min(known) if known else None
