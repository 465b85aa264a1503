"""What holds of every store of keys, wherever it keeps them."""

from __future__ import annotations

import pytest

from experts.errors import UnknownName, UserError
from orchestrator.keys.key import ASKING, Allowance, VirtualKey, new_key
from orchestrator.keys.store import KeyStore

Stores = tuple[KeyStore, KeyStore]
"""Of two processes, as it were."""


def made(name: str, at: float = 0.0, **more: object) -> VirtualKey:
    return new_key(name, now=at, **more)[0]


class KeyStoreContract:
    """To be inherited, with a fixture ``stores``."""

    def test_what_one_adds_the_other_finds(self, stores: Stores) -> None:
        one, other = stores
        allowance = Allowance(budget_usd=2.5, period="week", requests_per_min=3)
        ann = made("ann", 1.0, models=["sums"], routes=["chat"], allowance=allowance)
        bob = made("bob", 2.0, expires_at=9.0)
        one.add(bob)
        one.add(ann)
        assert list(other.all()) == [ann, bob]
        assert other.find("ann") == other.find(ann.key_id) == ann
        assert bob.routes == ASKING

    def test_its_version_is_another_when_it_was_written_to(self, stores: Stores) -> None:
        one, other = stores
        before = other.version()
        one.add(made("ann"))
        added = other.version()
        one.revoke("ann", now=1.0)
        assert len({before, added, other.version()}) == 3
        assert other.version() == other.version()

    def test_a_revoked_key_stays_and_its_name_is_free(self, stores: Stores) -> None:
        one, other = stores
        first = made("ann", 0.0)
        one.add(first)
        with pytest.raises(UserError, match="conclave keys revoke ann"):
            other.add(made("ann", 1.0))
        other.revoke("ann", now=5.0)
        assert one.all()[0].revoked_at == 5.0
        with pytest.raises(UnknownName):
            one.revoke("ann", now=6.0)
        second = made("ann", 7.0)
        other.add(second)
        assert one.find("ann") == second
        assert len(one.all()) == 2
