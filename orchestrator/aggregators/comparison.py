"""Which of two answers is better, as a model is asked it: in both orders, because judges prefer a
place (Zheng et al. 2023, arXiv:2306.05685). Aggregators and graders ask the same way."""

from __future__ import annotations

import re

from experts.values import Completion, Message
from orchestrator.evidence import material

_TASK = (
    "You are shown a question and two answers to it, answer_a and answer_b. Say which one answers "
    "the question better: right before complete, complete before well put. Neither the order nor "
    "the length of the answers is a merit. If they are equally good or equally bad, it is a tie."
)
_FORM = (
    "Compare answer_a and answer_b in a few sentences. Then end with one line that reads "
    "'Verdict: A', 'Verdict: B' or 'Verdict: tie'."
)
_VERDICT = re.compile(r"^[^\w\n]*(?:final )?verdict[^\w\n]+(A|B|tie)\b[^\w\n]*$", re.I | re.M)


def comparison(question: str, first: str, second: str) -> tuple[Message, ...]:
    """The prompt; ``first`` is shown as answer_a."""
    evidence = {"question": question, "answer_a": first, "answer_b": second}
    return material(_TASK, evidence, _FORM)


def verdict(completion: Completion) -> str | None:
    """``a``, ``b`` or ``tie``; None where the call failed or the text gives none. The last one: a
    judge may quote one from what it judges, but ends with its own."""
    found = _VERDICT.findall(completion.text) if completion.ok else []
    return str(found[-1]).lower() if found else None
