"""The till of keys: what drivers ask before calls that a key pays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from experts.expert import Pool
from experts.values import Call, Completion
from orchestrator.keys.accounts import NOTHING, Accounts, Amount
from orchestrator.keys.key import VirtualKey


class KeyTill:
    """Calls without an account pass: they are of the owner's own commands."""

    def __init__(
        self, accounts: Accounts, key_of: Callable[[str], VirtualKey | None], pool: Pool
    ) -> None:
        """key_of: by id."""
        self._accounts, self._key_of, self._pool = accounts, key_of, pool
        self._reserved: dict[int, Amount] = {}
        """By the identity of calls, which live until they are settled."""

    async def reserve(self, calls: Sequence[Call]) -> Mapping[int, str]:
        refused: dict[int, str] = {}
        taken: list[Call] = []
        try:
            for i, call in enumerate(calls):
                if (key := self._key(call)) is None:
                    continue
                most = self._most(call)
                if refusal := await self._accounts.reserve(key, most):
                    refused[i] = refusal.reason
                else:
                    self._reserved[id(call)] = most
                    taken.append(call)
        except BaseException:
            for call in taken:
                self.settle(call, None)
            raise
        return refused

    def settle(self, call: Call, completion: Completion | None) -> None:
        reserved = self._reserved.pop(id(call), None)
        if reserved is None or (key := self._key(call)) is None:
            return
        used = NOTHING
        if completion is not None:
            n_tokens = completion.usage.input_tokens + completion.usage.output_tokens
            used = Amount(completion.cost_usd, n_tokens)
        self._accounts.settle(key, reserved, used)

    def charge(self, account: str, usd: float) -> None:
        key = self._key_of(account) if account and usd else None
        if key is not None:
            self._accounts.settle(key, NOTHING, Amount(usd, 0))

    def _key(self, call: Call) -> VirtualKey | None:
        return self._key_of(call.account) if call.account else None

    def _most(self, call: Call) -> Amount:
        most = self._pool.most_usage(call)
        usd = self._pool.most_usd(call) if call.max_cost_usd is None else call.max_cost_usd
        return Amount(usd, most.input_tokens + most.output_tokens)
