"""Request bodies, checked: what clients send, turned into queries.

Fields are OpenAI's. What Conclave does not do is accepted only at the value that asks for nothing
(``presence_penalty: 0``); anything else is refused by name rather than ignored.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from experts.cards import OPENAI_EXTRA
from experts.errors import LimitReached
from experts.values import Message, Query, Sampling, encodable
from orchestrator.config import Config
from orchestrator.queries import Wishes, make_query

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
"""OpenAI fields that not every expert takes, or none does yet, and the values at which they ask for
nothing."""
_ECHOED: dict[str, tuple[Any, ...]] = {
    "refusal": (),  # any: it is in our own answers, and clients send these back as history
    "annotations": ([], None),
    "audio": (None,),
    "function_call": (None,),
    "tool_calls": ([], None),
}
"""Fields of an assistant's message that clients echo from a response, and the same for them."""
_SHOWN_CHARS = 80
_NO_TOOLS = (
    ". No expert is given tools here: have one that takes response_format write a call's arguments "
    "as JSON, or ask its own server"
)
_INSTEAD = dict.fromkeys(("tools", "tool_choice", "functions", "tool_calls"), _NO_TOOLS)
"""What to do in place of what is refused."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _without_neutral(fields: dict[str, Any], neutral: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Fields without those that ask for nothing. Raises ValueError for one that asks for more."""
    kept = {}
    for key, value in fields.items():
        if key not in neutral:
            kept[key] = value
        elif neutral[key] and value not in neutral[key]:
            shown = repr(value)
            shown = shown if len(shown) < _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}..."
            instead = _INSTEAD.get(key, "")
            raise ValueError(f"{key}: {shown} is not supported; leave {key!r} out{instead}")
    return kept


def _plain_text(content: Any) -> Any:
    """Content given as text parts, joined; other kinds of parts are refused."""
    if not isinstance(content, list):
        return content
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise ValueError("only text parts are supported: {'type': 'text', 'text': '...'}")
        texts.append(text)
    return "".join(texts)


class ChatMessage(_Body):
    """One message."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_plain_text), AfterValidator(encodable)]
    name: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_echoed(cls, message: Any) -> Any:
        """An assistant's message as it stands in a response is one that may be sent back."""
        if not isinstance(message, dict) or message.get("role") != "assistant":
            return message
        kept = _without_neutral(message, _ECHOED)
        if kept.get("content") is None and message.get("refusal"):
            kept["content"] = str(message["refusal"])
        return kept


class StreamOptions(_Body):
    include_usage: bool = False


class Extension(_Body):
    """What only Conclave understands; OpenAI's client sends it as ``extra_body``."""

    fallback_price_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """V: what a wrong answer costs you; overrides the policy's."""
    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Upper bound in tokens' dollars, of all choices together; a call that might pass it is not
    made."""
    max_calls: int | None = Field(default=None, ge=1)
    timeout_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """For each call."""
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
        """What asks for nothing is dropped, what an expert may take is kept."""
        if not isinstance(body, dict):
            return body
        kept = {
            name: value
            for name, value in body.items()
            if name in OPENAI_EXTRA & set(cls.model_fields) and value not in _NEUTRAL.get(name, ())
        }
        return _without_neutral({k: v for k, v in body.items() if k not in kept}, _NEUTRAL) | kept

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
    """This and what follows only where ``model`` is an expert behind an API that takes it."""
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
        """Greedy unless a temperature is asked for."""
        asked = self.max_completion_tokens or self.max_tokens
        if asked is not None and asked > config.limits.max_tokens:
            raise ValueError(
                f"max_tokens: {asked} is over this server's limit of {config.limits.max_tokens}"
            )
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            max_tokens=asked or config.limits.max_tokens,
            temperature=self.temperature or 0.0,
            top_p=self.top_p or 1.0,
            seed=(self.seed or 0) % 2**31,
            stop=stops,
            extra=self._extra(),
        )

    def _extra(self) -> tuple[tuple[str, str], ...]:
        """Fields that are handed on, as JSON, in the order of their names."""
        asked = [(name, getattr(self, name)) for name in sorted(OPENAI_EXTRA)]
        return tuple((name, json.dumps(value)) for name, value in asked if value is not None)


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
    wishes = Wishes(**body.conclave.model_dump())
    n = 1
    if isinstance(body, ChatRequest):
        n, wishes = body.n, replace(wishes, caller=body.user or "")
    if n > 1:  # a request's limits are for all of its choices together
        if wishes.max_calls is not None and wishes.max_calls < n:
            raise LimitReached(f"n={n} needs a call a choice, and max_calls is {wishes.max_calls}.")
        wishes = replace(
            wishes,
            max_calls=wishes.max_calls and wishes.max_calls // n,
            max_cost_usd=wishes.max_cost_usd and wishes.max_cost_usd / n,
        )
    return make_query(config, body.target, body.values(), wishes, sampling)
