"""A durable run's calls as the ledger has them: begun before they are sent, settled when they come.

A strategy that is followed again makes the same calls in the same order, so a call is known by its
number. That it is the same call is checked, and not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experts.digests import call_digest
from experts.errors import RunChanged
from experts.expert import Pool
from experts.values import Call, Completion, Limits
from orchestrator.ledger import BegunCall, Ledger

Numbered = tuple[int, Call]
"""A call with its number among the run's calls, from 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """Calls that were begun, and whose answer nobody has: a process was killed meanwhile."""

    n_calls: int
    most_usd: float
    """Upper bound of what they may have cost, which no ledger knows."""


class Journal:
    """What a run has asked. Nobody else may write it meanwhile (``Lease``)."""

    def __init__(self, ledger: Ledger, run_id: str, decision_id: str, pool: Pool) -> None:
        self._ledger, self._pool = ledger, pool
        self._run_id, self._decision_id = run_id, decision_id
        self._asked: dict[int, str] = {}
        """Digests by number."""
        self._known: dict[int, Completion] = {}
        self._begun: dict[int, int] = {}
        """Latest row in the ledger, by number."""
        self.cut_short: list[Completion] = []
        """That earlier processes broke off, and paid for."""
        self._n_wasted, self._wasted_usd = 0, 0.0
        """Of calls that brought nothing back: cut short, or lost with their process."""
        for begun in ledger.begun_by(run_id):
            self._asked[begun.seq] = begun.digest
            if begun.completion is not None and is_settled(begun.completion):
                self._known[begun.seq] = begun.completion
                continue
            self._n_wasted += 1
            if begun.completion is None:
                self._wasted_usd += begun.most_usd
            else:
                self._wasted_usd += begun.completion.cost_usd
                self.cut_short.append(begun.completion)

    def is_begun(self, seq: int) -> bool:
        return seq in self._asked

    def check(self, numbered: Sequence[Numbered]) -> None:
        """Raises RunChanged when one of these calls is not what its number stands for."""
        for seq, call in numbered:
            if self._asked.get(seq, call_digest(call)) != call_digest(call):
                raise RunChanged(_changed(self._run_id, f"call {seq + 1}, to {call.arm}, is new"))

    def check_end(self, n_calls: int) -> None:
        """Raises RunChanged when more was asked than these."""
        if left := sum(seq >= n_calls for seq in self._asked):
            raise RunChanged(_changed(self._run_id, f"{left} calls that were made are not wanted"))

    def completion(self, seq: int, call: Call) -> Completion | None:
        """What became of a call; None where it is to be made."""
        found = self._known.get(seq)
        return found and replace(found, call=replace(call, arm=found.call.arm))

    def past_limit(self, call: Call, limits: Limits, beside: Sequence[Call]) -> str | None:
        """Why a call must not be made, where earlier processes paid, or may have, for what never
        came back: the run that is followed again knows nothing of that. beside: calls that are
        about to be made with it."""
        if not self._n_wasted:
            return None
        gone = f"{self._n_wasted} of its calls were cut short or lost"
        n_calls = self._n_wasted + len(self._known) + len(beside) + 1
        if limits.max_calls is not None and n_calls > limits.max_calls:
            return f"the limit of {limits.max_calls} calls is reached: {gone}"
        if limits.max_cost_usd is None:
            return None
        spent_usd = self._wasted_usd + sum(c.cost_usd for c in self._known.values())
        most_usd = sum(self._pool.most_usd(c) for c in (*beside, call))
        if spent_usd + most_usd > limits.max_cost_usd:
            return (
                f"the limit of {limits.max_cost_usd:.3g} $ is too little for {call.arm}: {gone}, "
                f"which cost up to {self._wasted_usd:.3g} $"
            )
        return None

    def begin(self, numbered: Sequence[Numbered]) -> None:
        """Write down that these are about to be sent."""
        begun_ids = self._ledger.begin(
            {
                "run_id": self._run_id,
                "seq": seq,
                "query_id": call.query_id,
                "decision_id": self._decision_id,
                "expert": call.arm.expert,
                "mode": call.arm.mode,
                "digest": call_digest(call),
                "most_usd": self._pool.most_usd(call),
            }
            for seq, call in numbered
        )
        for (seq, call), begun_id in zip(numbered, begun_ids, strict=True):
            self._begun[seq], self._asked[seq] = begun_id, call_digest(call)

    def settle(self, seq: int, completion: Completion) -> None:
        """Write down what became of a call that was begun."""
        self._ledger.add_calls(
            [completion],
            [self._decision_id],
            versions=self._pool.versions,
            begun_ids=[self._begun[seq]],
        )
        if is_settled(completion):
            self._known[seq] = completion


def is_settled(completion: Completion) -> bool:
    """It came back, and is not made again; one that was cut short by a process that was asked to
    stop is, though its bill is in the ledger."""
    return completion.finish_reason != "cancelled"


def lost(calls: Sequence[BegunCall]) -> Lost:
    """Of a run that nobody works on; of others, what is under way counts, too."""
    gone = [c for c in calls if c.completion is None]
    return Lost(n_calls=len(gone), most_usd=sum(c.most_usd for c in gone))


def _changed(run_id: str, what: str) -> str:
    return (
        f"{run_id} cannot go on: followed again, its strategy does not make the calls that are "
        f"recorded ({what}). Its code, what was fitted, prices or limits have changed since. "
        "Nothing was asked or paid now. Put back what it began with, or give it up: "
        f"conclave runs cancel {run_id}"
    )
