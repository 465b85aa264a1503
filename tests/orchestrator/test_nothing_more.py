"""The policy of a fleet of engines hears from a batch that nothing more comes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from experts.residency.policies.base import Action, Policy, View
from experts.residency.policies.coserve import CoServe
from orchestrator.ledger import Ledger
from tests import pools
from tests.engines import lab
from tests.orchestrator.batch.batches import make_conclave


class Noting(CoServe):
    """Notes who waits, and whether more may come."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool]] = []

    def decide(self, view: View) -> Iterator[Action]:
        n_waiting = sum(len(queue) for queue in view.queues.values())
        self.seen.append((n_waiting, view.more_to_come))
        yield from super().decide(view)


def test_from_its_first_decision_where_all_of_it_is_in_flight(
    tmp_path: Path, ledger: Ledger
) -> None:
    policy: Policy = Noting()
    with lab(tmp_path, names=("logic",), policy=policy) as it:
        conclave = make_conclave(ledger, it.experts.values())
        for turn in range(2):
            queries = [pools.query("Who are you?", query_id=f"{turn}.{i}") for i in range(3)]
            asyncio.run(conclave.answer_many(queries, "logic", source="batch"))
            assert (3, False) in policy.seen
            assert (3, True) not in policy.seen
            policy.seen.clear()
        asyncio.run(conclave.answer(pools.query("Who are you?"), "logic", source="ask"))
        assert (1, True) in policy.seen
