"""``kill -9`` of a durable run at every moment there is: the same answer, and each call once."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from experts.values import Limits
from tests.orchestrator.runs.relays import (
    N_CALLS,
    STAGES,
    Folder,
    finished,
    killed_at,
    opened,
    start,
)

MOMENTS = {
    "before begun": len(STAGES),
    "after begun": len(STAGES),
    "charged": N_CALLS,
    "after recorded": N_CALLS,
    "after checkpoint": N_CALLS,
    "before answered": 1,
    "after answered": 1,
}
NOTHING_UNDER_WAY = ("before begun", "before answered", "after answered")
"""Otherwise a call is, or the one beside it, and nobody can know whether it was paid."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_to_the_same_answer_and_pays_each_call_once(
    tmp_path: Path, processes: ForkServerContext, moment: str
) -> None:
    folders = [Folder(tmp_path / str(n)) for n in range(MOMENTS[moment])]
    children, ids = [], []
    for n, folder in enumerate(folders):
        with opened(folder) as runs:
            ids.append(start(runs))
        children.append(processes.Process(target=killed_at, args=(folder, ids[-1], moment, n)))
    expected = reference(tmp_path / "reference")
    for n, (folder, run_id, child) in enumerate(zip(folders, ids, children, strict=True)):
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL, n
        answer = finished(folder, run_id)
        assert answer == expected, n
        assert folder.calls() == Counter(range(N_CALLS)), n
        with opened(folder) as runs:
            view = runs.view(run_id)
        assert view.state == "done"
        assert view.cost_usd == pytest.approx(answer["cost_usd"])
        paid_twice = len(folder.charged) - N_CALLS
        assert paid_twice <= view.lost.n_calls <= (0 if moment in NOTHING_UNDER_WAY else 2), n


def reference(path: Path) -> object:
    """Of a run that nobody kills."""
    folder = Folder(path)
    with opened(folder) as runs:
        run_id = start(runs)
    answer = finished(folder, run_id)
    assert len(folder.charged) == N_CALLS
    return answer


def test_dollars_that_were_lost_with_a_process_count_against_the_limit(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    unkilled = Folder(tmp_path / "unkilled")
    with opened(unkilled) as runs:
        run_id = start(runs)
        asyncio.run(runs.go_on(run_id))
        spent_usd = runs.view(run_id).cost_usd
        most_usd = max(begun.most_usd for begun in runs.conclave.ledger.begun_by(run_id))
    enough = Limits(max_cost_usd=spent_usd + most_usd)
    folder = Folder(tmp_path / "killed")
    with opened(folder) as runs:
        run_id = start(runs, limits=enough)
    child = processes.Process(target=killed_at, args=(folder, run_id, "charged", 2))
    child.start()
    child.join()
    answer = finished(folder, run_id)
    with opened(folder) as runs:
        view = runs.view(run_id)
    assert view.lost.n_calls == 1
    assert enough.max_cost_usd
    assert view.cost_usd + view.lost.most_usd <= enough.max_cost_usd
    assert any("1 of its calls were cut short or lost" in note for note in answer["notes"])


def test_limits_hold_across_kills(tmp_path: Path, processes: ForkServerContext) -> None:
    """What an earlier process asked counts against them, lost calls too: they may be paid."""
    folder = Folder(tmp_path)
    with opened(folder) as runs:
        run_id = start(runs, limits=Limits(max_calls=6))
    child = processes.Process(target=killed_at, args=(folder, run_id, "after recorded", 3))
    child.start()
    child.join()
    answer = finished(folder, run_id)
    assert folder.calls() == Counter(range(5))
    assert "the limit of 6 calls is reached: 1 of its calls" in answer["notes"][0]
    assert finished(folder, run_id) == answer
