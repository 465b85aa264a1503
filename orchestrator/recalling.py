"""Calls that the ledger knows already, of a process that was killed: they are not made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from experts.values import Arm, Call, Completion, Query
from orchestrator.drivers.run import Recall
from orchestrator.ledger import Ledger


def recall_from(
    ledger: Ledger, queries: Sequence[Query], *, since_s: float, versions: Mapping[str, str]
) -> Recall:
    """What the ledger has of these queries' calls since then (Unix seconds), of the weights that
    the pool has now (``versions`` by expert)."""
    known = {
        _identity(_as_asked(recorded.completion)): recorded.completion
        for recorded in ledger.completions_of([q.query_id for q in queries], since_s=since_s)
        if versions.get(recorded.completion.call.arm.expert) == recorded.version
    }

    def recall(call: Call) -> Completion | None:
        found = known.get(_identity(call))
        return found and replace(found, call=replace(call, arm=found.call.arm))

    return recall


def _as_asked(completion: Completion) -> Call:
    """The call as it was made, whoever answered."""
    return replace(completion.call, arm=completion.asked)


def _identity(call: Call) -> tuple[str, Arm, int, str, float, int]:
    """What a recorded call must have in common with one that is to be made."""
    sampling = call.sampling
    return call.query_id, call.arm, call.sample, call.prompt, sampling.temperature, sampling.seed
