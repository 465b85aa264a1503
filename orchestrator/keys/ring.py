"""The keys of a running server, by secret: in memory, and looked at again when the file changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from orchestrator.keys.key import VirtualKey, digest_of
from orchestrator.keys.store import KeyStore

_LOOK_AGAIN_S = 0.1
"""Between looks for a secret that is not known: a new key works at once, and whoever guesses does
not keep the file busy."""


class KeyRing:
    """Finds the key that a request brings."""

    def __init__(
        self,
        store: KeyStore,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._now, self._clock = store, now, clock
        self._version = -1
        self._looked_s = -_LOOK_AGAIN_S
        self._by_digest: Mapping[str, VirtualKey] = {}
        self._by_id: Mapping[str, VirtualKey] = {}
        self.look()

    @property
    def is_needed(self) -> bool:
        """Whether a request needs a key: as soon as there was ever one."""
        return bool(self._by_digest)

    def find(self, secret: str) -> VirtualKey | None:
        """The good key of that secret."""
        digest = digest_of(secret)
        key = self._by_digest.get(digest)
        if key is None and self._clock() - self._looked_s >= _LOOK_AGAIN_S:
            self.look()
            key = self._by_digest.get(digest)
        return key if key is not None and key.is_good(self._now()) else None

    def of_id(self, key_id: str) -> VirtualKey | None:
        """Also one that is good no more: who was let in is not put out in the middle."""
        return self._by_id.get(key_id)

    def look(self) -> None:
        """Read the file again if it has changed. Raises sqlite3.Error; what was known stays."""
        self._looked_s = self._clock()
        version = self._store.version()
        if version != self._version:
            keys = self._store.all()
            self._by_digest = {key.digest: key for key in keys}
            self._by_id = {key.key_id: key for key in keys}
            self._version = version
