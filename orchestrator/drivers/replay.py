"""The replay driver: calls are answered from what was recorded; no expert is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from experts.errors import DataError
from experts.values import Arm, Call, Completion
from orchestrator.answer import Answer
from orchestrator.drivers.run import Run

Lookup = Callable[[Call], Completion]


def run_replay(run: Run, lookup: Lookup) -> Answer:
    """Run to the answer with recorded completions."""
    while run.answer is None:
        run.send([lookup(call) for call in run.pending])
    return run.answer


class Recording:
    """Recorded completions by query, arm, sample and, where it was not the query's own, prompt."""

    def __init__(self, completions: Iterable[Completion]) -> None:
        self._by_key: dict[tuple[str, Arm, int, str], Completion] = {
            (c.call.query_id, c.call.arm, c.call.sample, c.call.prompt): c for c in completions
        }

    def __call__(self, call: Call) -> Completion:
        """Raises DataError when nothing was recorded: a guess would make the replay fiction."""
        key = call.query_id, call.arm, call.sample, call.prompt
        if key not in self._by_key:
            if call.prompt:
                raise DataError(
                    f"{call.arm} is asked something else than query {call.query_id!r} itself (to "
                    "judge, to plan, to put answers together), and what it says to that was not "
                    "recorded. A strategy that needs this can only be run live."
                )
            raise DataError(
                f"No outcome of {call.arm} (sample {call.sample}) on query {call.query_id!r} is "
                "recorded. Record it first: conclave record, with --samples for votes."
            )
        return self._by_key[key]


def _key(call: Call) -> tuple[str, bool, Arm, int]:
    """An answer is one whether it was recorded or asked for; keywords are something else."""
    return call.query_id, call.purpose == "annotate", call.arm, call.sample
