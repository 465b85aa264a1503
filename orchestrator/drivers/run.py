"""A strategy in progress, for whichever driver: what it waits for, and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experts.expert import Pool
from experts.values import Call, Completion, Limits
from orchestrator.answer import Answer
from orchestrator.strategies.base import Steps


class Run:
    """Steps through a strategy. A driver makes the ``pending`` calls and sends their completions
    until there is an ``answer``.

    The caller's limits are kept here, so that no strategy and no driver can forget them: a call
    past a limit comes back to the strategy as failed, unasked and unpaid.
    """

    def __init__(self, steps: Steps, limits: Limits, pool: Pool | None = None) -> None:
        """``pool`` gives the prices; needed where there is a limit on dollars."""
        if limits.max_cost_usd is not None and pool is None:
            raise ValueError("A limit on dollars cannot be kept without the pool's prices.")
        self._steps, self._limits, self._pool = steps, limits, pool
        self._calls: list[Call] = []
        self._refused: dict[int, Completion] = {}
        self._reserved_usd, self._n_calls = 0.0, 0
        self.made: list[Completion] = []
        """Completions so far, without those that a limit refused."""
        self.pending: list[Call] = []
        """Calls to be made now; empty once there is an answer."""
        self.answer: Answer | None = None
        self._advance(None)

    def send(self, completions: Sequence[Completion]) -> None:
        """Completions of the pending calls, in their order."""
        self.made += completions
        made = iter(completions)
        reply = [
            self._refused[i] if i in self._refused else next(made) for i in range(len(self._calls))
        ]
        self._advance(reply)

    def close(self) -> None:
        """Abandon the strategy."""
        self._steps.close()

    def _advance(self, reply: Sequence[Completion] | None) -> None:
        while True:
            try:
                # A fresh generator takes None; typing cannot say so.
                self._calls = list(self._steps.send(reply))  # type: ignore[arg-type]
            except StopIteration as stop:
                self.answer, self.pending = stop.value, []
                return
            if not self._calls:
                raise RuntimeError("A strategy yielded no calls; it must yield some or return.")
            self._refused, self._reserved_usd = {}, 0.0
            for i, call in enumerate(self._calls):
                if reason := self._limit_hit(call):
                    self._refused[i] = _refusal(call, reason)
                else:
                    self._n_calls += 1
                    self._calls[i] = self._with_allowance(call)
            self.pending = [c for i, c in enumerate(self._calls) if i not in self._refused]
            if self.pending:
                return
            reply = list(self._refused.values())

    def _with_allowance(self, call: Call) -> Call:
        """The call with what was reserved for it, so that its retries do not pass the limit."""
        if self._limits.max_cost_usd is None or self._pool is None:
            return call
        return replace(call, max_cost_usd=self._pool.card(call.arm.expert).most_usd(call))

    def _limit_hit(self, call: Call) -> str | None:
        """Why this call must not be made. Its dollars are bounded before it is made and reserved
        while it runs: a limit that is looked at afterwards is none."""
        limits = self._limits
        if limits.max_calls is not None and self._n_calls >= limits.max_calls:
            return f"the limit of {limits.max_calls} calls is reached"
        if limits.max_cost_usd is not None and self._pool is not None:
            most = self._pool.card(call.arm.expert).most_usd(call)
            spent = sum(c.cost_usd for c in self.made) + self._reserved_usd
            if spent + most > limits.max_cost_usd:
                return (
                    f"the limit of {limits.max_cost_usd:.3g} $ is too little for {call.arm}, which "
                    f"may cost up to {most:.3g} $ (spent so far: {spent:.3g} $)"
                )
            self._reserved_usd += most
        return None


def _refusal(call: Call, reason: str) -> Completion:
    return Completion(call=call, finish_reason="error", error=reason, error_code="over_limit")
