"""The wave driver: many queries advance together.

In each wave the pending calls of all queries are pooled and every expert is asked once, in one
batch. Thousands of cascades so load each expert as often as there are waves, not queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from orchestrator.answer import Answer
from orchestrator.drivers.calling import Experts, Recorder, call_experts
from orchestrator.drivers.run import Run


async def run_wave(
    runs: Sequence[Run],
    experts: Experts,
    record: Recorder,
    *,
    on_progress: Callable[[int], None] = lambda n_answered: None,
) -> list[Answer]:
    """Answers of all runs, in order. ``on_progress`` is told how many are answered."""
    going = [run for run in runs if run.answer is None]
    while going:
        calls = [call for run in going for call in run.pending]
        completions = iter(await call_experts(calls, experts, record))
        for run in going:
            run.send([next(completions) for _ in run.pending])
        going = [run for run in going if run.answer is None]
        on_progress(len(runs) - len(going))
    return [cast(Answer, run.answer) for run in runs]
