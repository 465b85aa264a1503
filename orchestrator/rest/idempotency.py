"""``Idempotency-Key``: who asks again gets the answer that there is, and pays for it once.

For clients whose connection broke, or whose server was killed, and who cannot know how far it had
come. The ledger keeps the response of every request that had a key. A request that was under way
has no response yet, but its key gives it its query id, so calls that were paid are recalled.

Only answers are kept: what failed may succeed when it is asked again. While a request is being
answered, others with its key wait for it, in this process. Apart from that (it answers 409) we
follow draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from experts.errors import KeyReused, UserError
from experts.values import Delta
from orchestrator.decision import Result
from orchestrator.ledger import Ledger
from orchestrator.rest.chat import completion_body
from orchestrator.rest.schemas import ChatRequest

REPLAYED = {"idempotent-replayed": "true"}
"""Header of a response that was given before."""
MAX_KEY_CHARS = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A client's key, and what it was given with."""

    name: str
    request: str
    """Digest of what is asked, whether streamed or not."""

    @property
    def query_id(self) -> str:
        return f"key-{_digest(f'{self.request} {self.name}')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A response that was given before."""

    body: dict[str, Any]


class Keys:
    """Of one server."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of keys whose requests are being answered."""

    async def once(
        self, key: Key, answer: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any] | Kept:
        """A body that ``answer`` made now, or the kept one. Raises KeyReused."""
        async with self._lock(key):
            if kept := self._kept(key):
                return kept
            body = await answer()
            self._keep(key, body)
            return body

    async def once_streamed(
        self, key: Key, model: str, pieces: AsyncGenerator[Delta | Result]
    ) -> AsyncGenerator[Delta | Result | Kept]:
        """The pieces, whose result is then kept, or the kept response alone. Raises KeyReused."""
        async with aclosing(pieces), self._lock(key):
            if kept := self._kept(key):
                yield kept
                return
            async for piece in pieces:
                if isinstance(piece, Result) and _is_whole(piece):
                    self._keep(key, completion_body(model, [piece]))
                yield piece

    def _lock(self, key: Key) -> asyncio.Lock:
        return self._locks.setdefault(key.name, asyncio.Lock())

    def _kept(self, key: Key) -> Kept | None:
        found = self._ledger.response_to(key.name)
        if found is None:
            return None
        request, body = found
        if request != key.request:
            raise KeyReused(
                f"The Idempotency-Key {key.name!r} was given with another request before. Give "
                "every request its own, and the same one only to ask the very same again."
            )
        return Kept(body=json.loads(body))

    def _keep(self, key: Key, body: dict[str, Any]) -> None:
        self._ledger.add_response(key.name, key.request, json.dumps(body, ensure_ascii=False))


def key_of(name: str, body: ChatRequest) -> Key:
    """Raises UserError for what is no key."""
    if not (0 < len(name) <= MAX_KEY_CHARS and name.isascii() and name.isprintable()):
        raise UserError(
            f"Idempotency-Key: must be 1 to {MAX_KEY_CHARS} printable ASCII characters; a random "
            "UUID is a good one."
        )
    # Without defaults, so that fields of later releases do not make old requests other ones.
    asked = body.model_dump_json(exclude_defaults=True, exclude={"stream", "stream_options"})
    return Key(name=name, request=_digest(asked))


def _is_whole(result: Result) -> bool:
    answer = result.answer
    return (answer.succeeded or answer.abstained) and not answer.broken_off


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
