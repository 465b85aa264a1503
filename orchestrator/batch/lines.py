"""Lines of a queries file: our own format, or OpenAI's batch format, as a server's requests.

Both are checked by the same schema as what is asked over REST, so a line means what it would mean
there. A line that is wrong is told of, and costs no other line anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experts.errors import DataError, UserError, did_you_mean
from experts.values import encodable
from orchestrator.rest.schemas import ChatRequest, Extension

MAX_LINE_BYTES = 4 << 20
MAX_ID_CHARS = 512
OPENAI_URL = "/v1/chat/completions"
_WISHES = tuple(Extension.model_fields)
_NOT_IN_A_BATCH = {"stream", "stream_options", "n", "conclave", "user"}
_REQUEST = tuple(name for name in ChatRequest.model_fields if name not in _NOT_IN_A_BATCH)
_FIELDS = ("id", "question", "metadata", *_WISHES, *_REQUEST)
_OPENAI_FIELDS = ("custom_id", "method", "url", "body")
_SHOWN_CHARS = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLine:
    """A line that asks something."""

    number: int
    """From 1."""
    id: str
    digest: str
    """Of the id and everything that is asked: the same in every run, another when the line is."""
    request: ChatRequest
    n_bytes: int
    is_openai: bool
    """In OpenAI's batch format; so is its answer."""
    metadata: Any = None
    """The owner's, to be given back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLine:
    """A line that cannot be asked."""

    number: int
    id: str | None
    problem: str


def read_lines(path: Path, *, model: str, n_bytes: int) -> Iterator[BatchLine | BadLine]:
    """Lines that are not blank, of the first ``n_bytes`` of a file. ``model``: for lines that name
    none. What is longer than MAX_LINE_BYTES is passed over without being held in memory."""
    with path.open("rb") as file:
        number = 0
        while file.tell() < n_bytes and (text := file.readline(MAX_LINE_BYTES + 1)):
            number += 1
            if len(text) > MAX_LINE_BYTES:
                while text and not text.endswith(b"\n"):
                    text = file.readline(MAX_LINE_BYTES)
                problem = f"it is longer than {MAX_LINE_BYTES >> 20} MiB"
                yield BadLine(number=number, id=None, problem=problem)
            elif text.strip():
                yield read_line(text, number, model=model)


def read_line(text: bytes, number: int, *, model: str) -> BatchLine | BadLine:
    """One line.

    >>> line = read_line(b'{"question": "1 + 1?", "max_cost_usd": 0.001}', 7, model="conclave")
    >>> line.id, line.request.messages[0].content, line.request.conclave.max_cost_usd
    ('line-7', '1 + 1?', 0.001)
    >>> read_line(b'{"qestion": "1 + 1?"}', 7, model="conclave").problem
    "unknown field 'qestion'. Did you mean 'question'?"
    """
    line_id: str | None = None
    try:
        found = _parsed(text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text)
        is_openai = "custom_id" in found or "body" in found
        line_id = _id_of(found, number, is_openai)
        request = _request(_openai_body(found) if is_openai else _own_body(found), model)
    except UserError as error:
        return BadLine(number=number, id=line_id, problem=str(error))
    asked = hashlib.blake2b(f"{line_id}\n".encode() + text.strip(), digest_size=10)
    return BatchLine(
        number=number,
        id=line_id,
        digest=asked.hexdigest(),
        n_bytes=len(text),
        request=request,
        is_openai=is_openai,
        metadata=None if is_openai else found.get("metadata"),
    )


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode())
    except UnicodeDecodeError as error:
        raise DataError(f"byte {error.start + 1} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise DataError(f"it is not JSON: {error.msg} at character {error.pos + 1}") from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of too many digits
        raise DataError(f"it is not JSON that can be read: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f"it holds a {type(found).__name__}, not an object: {{...}}")
    return found


def _id_of(found: dict[str, Any], number: int, is_openai: bool) -> str:
    name = "custom_id" if is_openai else "id"
    given = found.get(name, None if is_openai else f"line-{number}")
    if isinstance(given, int) and not isinstance(given, bool) and not is_openai:
        given = str(given)
    if not isinstance(given, str) or not 0 < len(given) <= MAX_ID_CHARS:
        raise DataError(f"{name}: must be a text of 1 to {MAX_ID_CHARS} characters")
    try:
        return encodable(given)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from None


def _openai_body(found: dict[str, Any]) -> dict[str, Any]:
    for name in found:
        if name not in _OPENAI_FIELDS:
            raise DataError(f"unknown field {name!r}.{did_you_mean(name, _OPENAI_FIELDS)}")
    if found.get("method", "POST") != "POST" or found.get("url", OPENAI_URL) != OPENAI_URL:
        raise DataError(f"only POST to {OPENAI_URL} is answered")
    if not isinstance(found.get("body"), dict):
        raise DataError("body: must be an object with messages, as a request's")
    return dict(found["body"])


def _own_body(found: dict[str, Any]) -> dict[str, Any]:
    for name in found:
        if name not in _FIELDS:
            raise DataError(f"unknown field {name!r}.{did_you_mean(name, _FIELDS)}")
    if ("question" in found) == ("messages" in found):
        raise DataError("give either question (a text) or messages (a conversation)")
    body = {k: v for k, v in found.items() if k not in {"id", "question", "metadata", *_WISHES}}
    if "question" in found:
        body["messages"] = [{"role": "user", "content": found["question"]}]
    return {**body, "conclave": {k: found[k] for k in _WISHES if k in found}}


def _request(body: dict[str, Any], model: str) -> ChatRequest:
    if body.get("stream"):
        raise DataError("stream: an answer in a file is not streamed; leave it out")
    try:
        return ChatRequest.model_validate({"model": model, **body})
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(p) for p in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        given = repr(problem["input"])
        shown = f" (got {given})" if place and len(given) < _SHOWN_CHARS else ""
        raise DataError(f"{place}: {message}{shown}" if place else message) from None
