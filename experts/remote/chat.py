"""OpenAI's chat completions, read: whole replies, chunks of a stream, and errors.

Checked at the door, since many servers speak this protocol and few all of it. What is not needed is
not looked at; what is missing is None, never a guess.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from experts.remote.wire import Reply, WireError
from experts.tool_calls import openai_message
from experts.values import Call, ErrorCode, FinishReason, ToolCall, Usage

_SHOWN_CHARS = 300
_TOO_LONG = re.compile(
    r"context.{0,20}(?:length|window|size)|maximum.{0,30}\btokens|too many tokens"
    r"|(?:prompt|input|conversation) is too long|reduce the length",
    re.I | re.S,
)
_FILTERED = re.compile(
    r"content[ _-]?(?:filter|policy|management)"
    r"|(?:input|prompt|request|message)s? (?:was|were|has been|have been) flagged",
    re.I,
)
_REFUSED = {401, 402, 403}
_TRANSIENT = {408, 409, 425, 429, 500, 502, 503, 504, 529}


class _Details(BaseModel):
    cached_tokens: int | None = Field(default=None, ge=0)


class _Tokens(BaseModel):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class _Logprob(BaseModel):
    """With whatever else the server tells of a token: its text, others that were likely."""

    model_config = ConfigDict(extra="allow")

    logprob: float


class _Logprobs(BaseModel):
    content: list[_Logprob] | None = None


class _Function(BaseModel):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None
    """Some servers send the object itself."""


class _ToolCall(BaseModel):
    """Whole, or a piece of a stream."""

    index: int | None = None
    id: str | None = None
    function: _Function = Field(default_factory=_Function)


class _Text(BaseModel):
    content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(BaseModel):
    message: _Text = Field(default_factory=_Text)
    delta: _Text = Field(default_factory=_Text)
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(default_factory=list)
    usage: Any = None
    error: Any = None


def request_of(call: Call) -> dict[str, Any]:
    """The fields of a request that the call's sampling asks for."""
    sampling = call.sampling
    fields: dict[str, Any] = {
        "messages": [openai_message(m) for m in call.messages],
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "logprobs": True,
    }
    if sampling.top_p != 1:
        fields["top_p"] = sampling.top_p
    if sampling.stop:
        fields["stop"] = list(sampling.stop)
    return {**fields, **{name: json.loads(text) for name, text in sampling.extra}}


def reply_of(body: bytes | dict[str, Any]) -> Reply:
    """A whole completion. Raises WireError, as paid, for what is none."""
    found = _read(body)
    if not found.choices:
        raise WireError(
            f"the reply holds no answer: {_shown(body)}", may_be_paid=True, usage=usage_of(found)
        )
    choice = found.choices[0]
    pieces = _Pieces()
    pieces.take(choice.message)
    return Reply(
        text=choice.message.content or "",
        usage=usage_of(found),
        logprob=_logprob_of(choice.logprobs),
        token_logprobs=_tokens_of(choice.logprobs),
        tool_calls=pieces.whole(),
        finish_reason=_finish(choice.finish_reason, pieces),
    )


class Stream:
    """Chunks of a stream, put together."""

    def __init__(self) -> None:
        self.text = ""
        self._tool_calls = _Pieces()
        self._usage: Usage | None = None
        self._logprobs: list[float] = []
        self._tells_logprobs = False
        self._finish: FinishReason | None = None

    def take(self, body: bytes | dict[str, Any]) -> str:
        """The text that a chunk adds. Raises WireError for a chunk that is an error."""
        found = _read(body)
        if found.error is not None:
            raise error_of(200, body, may_be_paid=True)
        self._usage = usage_of(found) or self._usage
        if not found.choices:
            return ""
        choice = found.choices[0]
        if choice.logprobs is not None and choice.logprobs.content is not None:
            self._logprobs += [token.logprob for token in choice.logprobs.content]
            self._tells_logprobs = True
        self._tool_calls.take(choice.delta)
        if choice.finish_reason:
            self._finish = _finish(choice.finish_reason, self._tool_calls)
        fresh = choice.delta.content or ""
        self.text += fresh
        return fresh

    def reply(self) -> Reply:
        """Raises WireError when the stream ended without saying that it is done."""
        if self._finish is None:
            raise WireError("the stream broke off", is_transient=True, may_be_paid=True)
        return Reply(
            text=self.text,
            usage=self._usage,
            logprob=_sum(self._logprobs) if self._tells_logprobs else None,
            tool_calls=self._tool_calls.whole(),
            finish_reason=self._finish,
        )


class _Pieces:
    """Tool calls, put together: a stream tells a call's name first and its arguments bit by bit."""

    def __init__(self) -> None:
        self._made: dict[int, _ToolCall] = {}

    def __bool__(self) -> bool:
        return bool(self._made)

    def take(self, text: _Text) -> None:
        for i, piece in enumerate(text.tool_calls or ()):
            # Without an index a piece is whole, or goes on where the last one was.
            last = max(self._made, default=-1)
            number = piece.index if piece.index is not None else last + bool(piece.id or i)
            if number not in self._made:
                self._made[number] = piece
                continue
            call, more = self._made[number], piece.function
            call.id = call.id or piece.id
            call.function.name = call.function.name or more.name
            if isinstance(more.arguments, dict) or not isinstance(call.function.arguments, str):
                call.function.arguments = more.arguments or call.function.arguments
            else:
                call.function.arguments += more.arguments or ""

    def whole(self) -> tuple[ToolCall, ...]:
        """Raises WireError, as paid, for a call without a name."""
        calls = []
        for number, piece in sorted(self._made.items()):
            if not piece.function.name:
                raise WireError("the reply holds a tool call without a name", may_be_paid=True)
            said = piece.function.arguments
            text = said if isinstance(said, str) else json.dumps(said or {}, ensure_ascii=False)
            calls.append(
                ToolCall(id=piece.id or f"call_{number}", name=piece.function.name, arguments=text)
            )
        return tuple(calls)


def usage_of(found: _Completion) -> Usage | None:
    """None where the server did not count, or counted nonsense."""
    if (plain := _plain_usage(found.usage)) is not None:
        return plain
    try:
        tokens = _Tokens.model_validate(found.usage)
    except ValidationError:
        return None
    return Usage(
        input_tokens=tokens.prompt_tokens,
        output_tokens=tokens.completion_tokens,
        cached_tokens=_cached_tokens(found.usage, tokens.prompt_tokens),
    )


def _plain_usage(said: Any) -> Usage | None:
    """As most servers write it; None where a second look is needed."""
    if type(said) is not dict or said.get("prompt_tokens_details"):
        return None
    n_input, n_output = said.get("prompt_tokens"), said.get("completion_tokens")
    if type(n_input) is not int or type(n_output) is not int or min(n_input, n_output) < 0:
        return None
    return Usage(input_tokens=n_input, output_tokens=n_output)


def _cached_tokens(usage: Any, n_input: int) -> int:
    """0 where the server does not tell, or tells nonsense: what is not shown is not cheaper."""
    try:
        details = _Details.model_validate(usage.get("prompt_tokens_details") or {})
    except ValidationError:
        return 0
    return min(details.cached_tokens or 0, n_input)


def error_of(
    status: int,
    body: bytes | dict[str, Any],
    *,
    retry_after_s: float | None = None,
    may_be_paid: bool = False,
) -> WireError:
    """What an error response means for us; servers that say what they used are believed."""
    fields, usage = _error_fields(body)
    message = str(fields.get("message") or fields.get("detail") or _shown(body))[:_SHOWN_CHARS]
    name = str(fields.get("code") or fields.get("type") or "")
    code, transient = meaning_of(status, message, name)
    return WireError(
        f"{message} (HTTP {status})" if status != 200 else message,
        code=code,
        is_transient=transient,
        may_be_paid=may_be_paid,
        usage=usage,
        retry_after_s=retry_after_s,
        status=status,
    )


def meaning_of(status: int, message: str, name: str = "") -> tuple[ErrorCode, bool]:
    """Our code for an error, and whether asking again may help.

    >>> meaning_of(400, "This model's maximum context length is 256 tokens. However, ...")
    ('context_too_long', False)
    >>> meaning_of(400, "The prompt triggered our content management policy", "content_filter")
    ('refused', False)
    >>> meaning_of(429, "Slow down"), meaning_of(429, "You have no money", "insufficient_quota")
    (('failed', True), ('auth', False))
    """
    too_long = status in (400, 413, 422) and _TOO_LONG.search(message)
    if too_long or "context_length" in name or "context_size" in name:
        return "context_too_long", False
    if status in (400, 403, 422, 451) and _FILTERED.search(f"{name} {message}"):
        return "refused", False
    if status in _REFUSED or "insufficient_quota" in name:
        return "auth", False
    if status == 404:
        return "unreachable", False
    if status == 408:
        return "timeout", True
    return "failed", status in _TRANSIENT


def _error_fields(body: bytes | dict[str, Any]) -> tuple[dict[str, Any], Usage | None]:
    try:
        found = json.loads(body) if isinstance(body, bytes) else body
    except ValueError:
        return {}, None
    if not isinstance(found, dict):
        return {}, None
    inner = found.get("error", found)
    fields = inner if isinstance(inner, dict) else {"message": inner}
    return fields, usage_of(_Completion.model_construct(usage=found.get("usage")))


def _read(body: bytes | dict[str, Any]) -> _Completion:
    try:
        if isinstance(body, bytes):
            return _Completion.model_validate_json(body)
        return _Completion.model_validate(body)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "body"
        raise WireError(
            f"the reply is no chat completion: {place}: {problem['msg']}: {_shown(body)}",
            is_transient=True,
            may_be_paid=True,
        ) from None


def _logprob_of(logprobs: _Logprobs | None) -> float | None:
    if logprobs is None or logprobs.content is None:
        return None
    return _sum([token.logprob for token in logprobs.content])


def _sum(logprobs: Sequence[float]) -> float | None:
    """None for what is no number: minus infinity would outweigh all that was ever learned."""
    total = sum(logprobs)
    return total if math.isfinite(total) else None


def _tokens_of(logprobs: _Logprobs | None) -> str | None:
    if logprobs is None or logprobs.content is None:
        return None
    return json.dumps([token.model_dump() for token in logprobs.content], ensure_ascii=False)


def _finish(reason: str | None, calls: _Pieces) -> FinishReason:
    if reason == "length":
        return "length"
    return "tool_calls" if calls else "stop"  # servers differ in what they call it


def _shown(body: bytes | dict[str, Any]) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else repr(body)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
