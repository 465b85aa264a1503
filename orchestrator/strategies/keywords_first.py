"""Ask for keywords first; who answers is decided when they are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from experts.values import Call, Completion
from orchestrator.decision import Decision
from orchestrator.strategies.base import Steps

GoOn = Callable[[Sequence[Completion]], tuple[str, Decision, Steps]]
"""From what the passes brought: a note on what was learned, what is decided now, and its steps."""


def keywords_first(calls: Sequence[Call], go_on: GoOn) -> Steps:
    """Symbolic-MoE's annotation (arXiv:2503.05641) as the first step of whatever strategy is then
    chosen. Its calls are part of the answer's bill and limits."""
    asked = tuple((yield calls))
    note, decision, steps = go_on(asked)
    answer = yield from steps
    answer = replace(answer, notes=(note, *answer.notes), decision=decision)
    return answer.with_history((*asked, *answer.completions))


def noted(note: str, steps: Steps) -> Steps:
    """The same steps; their answer begins its notes with this one."""
    answer = yield from steps
    return replace(answer, notes=(note, *answer.notes))
