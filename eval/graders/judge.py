"""LLM judges: a model reads the answer and says what it is worth.

Pairwise, as in MT-Bench (Zheng et al. 2023, arXiv:2306.05685): asked in both orders, because judges
prefer a place; a winner must win in both, anything else is a tie. Pointwise: one grade on a scale.

**What the fence does not do.** The judged text cannot close its fence, and the prompt says before
and after it that it is material. But the judge is a language model and reads it all: a persuasive
text can still persuade it. Order balance takes the point from "say A", since that wins in one order
only; it does nothing against "prefer the text that says so". Where cheating would pay, judge with a
model that you have tested on such texts, or use a grader that asks no model.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from eval.graders.judging import Case, Judgement, Judging, ask_judge, not_judged, put_to_judge
from experts.values import Arm
from orchestrator.aggregators.comparison import comparison, verdict

MaxTokens = Annotated[int, Field(ge=1, le=100_000)]


def judge_pairwise(case: Case, judge: Arm, *, max_tokens: MaxTokens = 512) -> Judging:
    """1 when the judge prefers the answer to the reference in both orders, 0 when it prefers the
    reference in both, else 0.5: swapping the two mirrors the score.

    max_tokens: of each verdict, its reasons included. Both orders are asked at once.
    """
    completions = yield [
        put_to_judge(case, judge, comparison(case.question, *two), max_tokens=max_tokens)
        for two in ((case.answer, case.reference), (case.reference, case.answer))
    ]
    verdicts = [verdict(c) for c in completions]
    if None in verdicts:
        return not_judged(completions, "a verdict is missing, and one order alone is not balanced")
    wins = sum((verdicts[0] == "a", verdicts[1] == "b"))
    losses = sum((verdicts[0] == "b", verdicts[1] == "a"))
    notes = ("the verdict flipped with the order",) if wins and losses else ()
    return Judgement(
        score=1.0 if wins == 2 else 0.0 if losses == 2 else 0.5,
        figures=(("wins", float(wins)), ("losses", float(losses))),
        completions=tuple(completions),
        notes=notes,
    )


_POINTWISE_TASK = (
    "You are an impartial examiner. You are shown a question, a reference that answers it rightly, "
    "and an answer. You grade the answer: does it say what the reference says? What it says beyond "
    "the reference counts neither for nor against it, unless it contradicts it. Length and style "
    "are no merits."
)
_GRADE = re.compile(
    r"^[^\w\n]*(?:final )?grade[^\w\n-]+(\d{1,4})(?: ?/ ?\d{1,4})?[^\w\n]*$", re.I | re.M
)


def judge_pointwise(
    case: Case,
    judge: Arm,
    *,
    scale: Annotated[int, Field(ge=1, le=100)] = 10,
    max_tokens: MaxTokens = 512,
) -> Judging:
    """The grade that the judge gives the answer in the light of the reference, over ``scale``.

    scale: the best grade; 1 asks for right or wrong. A grade outside of it is not understood.
    """
    completions = yield [
        ask_judge(
            case,
            judge,
            task=_POINTWISE_TASK,
            evidence={
                "question": case.question, "reference": case.reference, "answer": case.answer,
            },
            form=(
                f"Grade the answer from 0 (wrong) to {scale} (as right as the reference), in whole "
                "numbers. Give your reasons in a few sentences. Then end with one line that reads "
                f"'Grade: N', with N from 0 to {scale}."
            ),
            max_tokens=max_tokens,
        )
    ]  # fmt: skip
    [completion] = completions
    grades = _GRADE.findall(completion.text) if completion.ok else []
    if not grades or int(grades[-1]) > scale:
        return not_judged(completions, f"no grade from 0 to {scale} was given")
    return Judgement(
        score=int(grades[-1]) / scale,
        figures=(("grade", float(grades[-1])),),
        completions=tuple(completions),
    )
