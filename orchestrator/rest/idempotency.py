"""``Idempotency-Key``: who asks again gets the answer that there is, and pays for it once.

For clients whose connection broke, or whose server was killed, and who cannot know how far it had
come. The ledger keeps the response of every request that had a key. A request that was under way
has no response yet, but its key gives it its query id, so calls that were paid are recalled.

Only answers are kept: what failed may succeed when it is asked again. While a request is being
answered, others with its key wait for it, in this process. Apart from that (it answers 409) we
follow draft-ietf-httpapi-idempotency-key-header. A key is its client's own, as far as a request
says whose it is (``Authorization``, ``user``), and stands for its request for so many seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from experts.errors import KeyReused, UserError
from experts.values import Delta
from orchestrator.decision import Result
from orchestrator.ledger import Ledger
from orchestrator.rest.chat import Stamp, completion_body
from orchestrator.rest.schemas import ChatRequest

REPLAYED = {"idempotent-replayed": "true"}
"""Header of a response that was given before."""
MAX_KEY_CHARS = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A client's key, and what it was given with."""

    name: str
    owner: str
    """Digest of what the request says of its client; empty where it says nothing."""
    request: str
    """Digest of what is asked, whether streamed or not."""

    @property
    def full_name(self) -> str:
        """The same for no other client's key: no name has a line break."""
        return f"{self.owner}\n{self.name}" if self.owner else self.name

    @property
    def query_id(self) -> str:
        return f"key-{_digest(f'{self.request} {self.full_name}')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """A response that was given before."""

    body: dict[str, Any]


class Keys:
    """Of one server."""

    def __init__(self, ledger: Ledger, *, kept_s: float) -> None:
        self._ledger, self._kept_s = ledger, kept_s
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """Of keys whose requests are being answered."""
        ledger.drop_responses(before_s=self.since_s)

    @property
    def since_s(self) -> float:
        """What is older (Unix seconds) is forgotten."""
        return time.time() - self._kept_s

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
        self, key: Key, model: str, stamp: Stamp, pieces: AsyncGenerator[Delta | Result]
    ) -> AsyncGenerator[Delta | Result | Kept]:
        """The pieces, whose result is then kept under ``stamp``, or the kept response alone.
        Raises KeyReused."""
        async with aclosing(pieces), self._lock(key):
            if kept := self._kept(key):
                yield kept
                return
            async for piece in pieces:
                if isinstance(piece, Result) and _is_whole(piece):
                    self._keep(key, completion_body(model, [piece], stamp))
                yield piece

    def _lock(self, key: Key) -> asyncio.Lock:
        return self._locks.setdefault(key.full_name, asyncio.Lock())

    def _kept(self, key: Key) -> Kept | None:
        found = self._ledger.response_to(key.full_name, since_s=self.since_s)
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
        self._ledger.drop_responses(before_s=self.since_s)
        said = json.dumps(body, ensure_ascii=False)
        self._ledger.add_response(key.full_name, key.request, said)


def key_of(name: str, body: ChatRequest, authorization: str | None) -> Key:
    """authorization: the request's header, whatever it says: we know of no keys ourselves, but
    what stands before us may. Raises UserError for what is no key."""
    if not (0 < len(name) <= MAX_KEY_CHARS and name.isascii() and name.isprintable()):
        raise UserError(
            f"Idempotency-Key: must be 1 to {MAX_KEY_CHARS} printable ASCII characters; a random "
            "UUID is a good one."
        )
    # Without defaults: who writes one out asks the same as who leaves it out.
    asked = body.model_dump_json(exclude_defaults=True, exclude={"stream", "stream_options"})
    says = [authorization, body.user]
    owner = _digest(json.dumps(says)) if any(says) else ""
    return Key(name=name, owner=owner, request=_digest(asked))


def _is_whole(result: Result) -> bool:
    answer = result.answer
    return (answer.succeeded or answer.abstained) and not answer.broken_off


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
