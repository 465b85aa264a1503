"""A strategy in progress, for whichever driver: what it waits for, and its limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from experts.expert import Pool
from experts.values import NO_LIMITS, UNASKED, Call, Completion, Limits, failed_completion
from orchestrator.answer import Answer
from orchestrator.strategies.base import Steps

Recall = Callable[[Call], Completion | None]
"""What is known already of a call, or None."""


class Run:
    """Steps through a strategy. A driver makes the ``pending`` calls and sends their completions
    until there is an ``answer``.

    The caller's limits are kept here, so that no strategy and no driver can forget them: a call
    past a limit comes back to the strategy as failed, unasked and unpaid. So is the history: the
    answer carries every completion that led to it, whoever of strategy and aggregator asked. One
    whose completion is known already, because a process that was killed had paid for it, is not
    made again.
    """

    def __init__(
        self,
        steps: Steps,
        limits: Limits,
        pool: Pool | None = None,
        recall: Recall = lambda call: None,
    ) -> None:
        """``pool`` gives the prices; needed where there is a limit on dollars."""
        if limits.max_cost_usd is not None and pool is None:
            raise ValueError("A limit on dollars cannot be kept without the pool's prices.")
        self._steps, self._limits, self._pool, self._recall = steps, limits, pool, recall
        self._is_limited = limits != NO_LIMITS
        self._calls: list[Call] = []
        self._settled: dict[int, Completion] = {}
        self._spent_usd, self._reserved_usd = 0.0, 0.0
        self._n_calls, self._spent_s = 0, 0.0
        self._heard: list[Completion] = []
        self.made: list[Completion] = []
        """Completions so far, without those that a limit refused."""
        self.pending: list[Call] = []
        """Calls to be made now; empty once there is an answer."""
        self.answer: Answer | None = None
        self._advance(None)

    def send(self, completions: Sequence[Completion]) -> None:
        """Completions of the pending calls, in their order."""
        made = iter(completions)
        reply = [self._settled.get(i) or next(made) for i in range(len(self._calls))]
        self._advance(reply)

    def close(self) -> None:
        """Abandon the strategy."""
        self._steps.close()

    def _advance(self, reply: Sequence[Completion] | None) -> None:
        while True:
            if reply:
                made = [c for c in reply if c.error_code not in UNASKED]
                self._heard += reply
                self.made += made
                self._spent_usd += sum([c.cost_usd for c in made])
                self._spent_s += max([c.latency_s for c in reply])
            try:
                # A fresh generator takes None; typing cannot say so.
                self._calls = list(self._steps.send(reply))  # type: ignore[arg-type]
            except StopIteration as stop:
                self.answer, self.pending = stop.value.with_history(tuple(self._heard)), []
                return
            if not self._calls:
                raise RuntimeError("A strategy yielded no calls; it must yield some or return.")
            self._settled, self._reserved_usd = {}, 0.0
            for i, asked in enumerate(self._calls):
                call = self._in_mode(asked)
                if self._is_limited:
                    call = self._with_affordable_stand_ins(self._in_time(call))
                if known := self._recall(call):
                    self._settled[i] = known
                    self._reserved_usd += known.cost_usd
                elif self._is_limited and (reason := self._limit_hit(call)):
                    self._settled[i] = failed_completion(call, reason, "over_limit")
                    continue
                else:
                    self._calls[i] = self._with_allowance(call)
                self._n_calls += 1
            self.pending = [c for i, c in enumerate(self._calls) if i not in self._settled]
            if self.pending:
                return
            reply = list(self._settled.values())

    def _in_mode(self, call: Call) -> Call:
        """The call in the words of its arm's mode: the one place where a mode becomes a prompt."""
        return call if self._pool is None else self._pool.in_mode(call)

    def _in_time(self, call: Call) -> Call:
        """The call with no more time than is left of the limit on all of them."""
        if self._limits.max_s is None:
            return call
        left_s = max(0.0, self._limits.max_s - self._spent_s)
        return replace(call, timeout_s=min(left_s, call.timeout_s or left_s))

    def _with_affordable_stand_ins(self, call: Call) -> Call:
        """A limit that allows the call itself must not refuse it for a dear stand-in."""
        left_usd, pool = self._left_usd(), self._pool
        if left_usd is None or pool is None or not call.stand_ins:
            return call
        kept = [s for s in call.stand_ins if pool.card(s.arm.expert).most_usd(call) <= left_usd]
        return replace(call, stand_ins=tuple(kept))

    def _left_usd(self) -> float | None:
        """Of the limit, neither spent nor reserved."""
        if self._limits.max_cost_usd is None:
            return None
        return self._limits.max_cost_usd - self._spent_usd - self._reserved_usd

    def _with_allowance(self, call: Call) -> Call:
        """The call with what is reserved for it, so that its retries do not pass the limit, nor
        what whoever pays has left."""
        is_counted = self._limits.max_cost_usd is not None or bool(call.account)
        if not is_counted or self._pool is None:
            return call
        return replace(call, max_cost_usd=self._pool.most_usd(call))

    def _limit_hit(self, call: Call) -> str | None:
        """Why this call must not be made. Its dollars are bounded before it is made and reserved
        while it runs: a limit that is looked at afterwards is none."""
        limits = self._limits
        if limits.experts is not None and call.arm.expert not in limits.experts:
            return f"{call.arm} may not be asked: the caller allows others only"
        if limits.max_calls is not None and self._n_calls >= limits.max_calls:
            return f"the limit of {limits.max_calls} calls is reached"
        if limits.max_s is not None and self._spent_s >= limits.max_s:
            return f"the limit of {limits.max_s:g} s is reached"
        if limits.max_cost_usd is not None and self._pool is not None:
            most = self._pool.most_usd(call)
            spent = self._spent_usd + self._reserved_usd
            if spent + most > limits.max_cost_usd:
                return (
                    f"the limit of {limits.max_cost_usd:.3g} $ is too little for {call.arm}, which "
                    f"may cost up to {most:.3g} $ (spent so far: {spent:.3g} $)"
                )
            self._reserved_usd += most
        return None
