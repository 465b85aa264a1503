"""AutoMix: a small model checks its own answer, and only what it may have got wrong goes on."""

from __future__ import annotations

import re

from experts.expert import Pool
from experts.values import Arm, Call, Completion, Query
from orchestrator.aggregators import Belief, First, has_answer
from orchestrator.evidence import aside, material, put
from orchestrator.strategies.asking import ask, ladder, named, or_anyone
from orchestrator.strategies.base import Steps, Strategy
from orchestrator.strategies.vote import SAMPLE_TEMPERATURE
from routers.scores import QueryScores

_TASK = (
    "You are shown a question and an answer to it. Find out whether the answer is right: look for "
    "the step that does not follow, and check the result on its own."
)
_FORM = "End with one line that reads 'Verdict: right' or 'Verdict: wrong'."
_VERDICT = re.compile(r"^[^\w\n]*(?:final )?verdict[^\w\n]+(right|wrong)\b[^\w\n]*$", re.I | re.M)


def automix(
    belief: Belief,
    *,
    samples: float = 4,
    good: float = 0.75,
    hopeless: float = 0.0,
    by: str = "",
) -> Strategy:
    """The lowest rung of the ladder answers; ``samples`` verdicts on it are drawn. A share of
    ``good`` or more for it ends the matter, so does one of ``hopeless`` or less (no rung would
    help, so none is paid); in between the highest rung answers.

    AutoMix, arXiv:2310.12963, with thresholds for its fitted table of states. ``by`` verifies;
    where it is empty, the arm that answered. Verdicts that cannot be read do not count; where none
    can, the belief in the answer stands for them.
    """

    def strategy(query: Query, scores: QueryScores, pool: Pool) -> Steps:
        rungs = ladder(scores)
        heard: list[Completion] = []
        if rungs:
            heard += yield [ask(query, rungs[0])]
        if len(rungs) > 1 and heard[0].ok and not has_answer(heard[0]):
            heard += yield [ask(query, rungs[-1])]  # nothing that could be judged
        elif len(rungs) > 1 and heard[0].ok:
            judge = named(by, scores, pool) if by else rungs[0]
            verdicts: list[Completion] = []
            if samples >= 1:
                verdicts += yield verifications(query, heard[0], judge, int(samples))
            share = share_right(verdicts)
            share = belief(heard[0], scores) if share is None else share
            if hopeless < share < good or (share < good and hopeless <= 0):
                heard += yield [ask(query, rungs[-1])]
        heard = yield from or_anyone(query, scores, heard)
        return First(belief).merge(query, heard[::-1], scores)

    return strategy


def verifications(query: Query, completion: Completion, judge: Arm, n: int) -> list[Call]:
    """Is it right? Asked ``n`` times; one alone is greedy."""
    prompt = material(_TASK, {"question": query.text, "answer": completion.text}, _FORM)
    hot = query.sampling.temperature or SAMPLE_TEMPERATURE
    return [
        put(
            query,
            judge,
            prompt,
            purpose="judge",
            sampling=aside(query, temperature=hot if n > 1 else 0.0, further=i),
            sample=i,
        )
        for i in range(n)
    ]


def share_right(verdicts: list[Completion]) -> float | None:
    """Share of the readable verdicts that say right; None where none can be read."""
    found = [_VERDICT.findall(c.text) for c in verdicts if c.ok]
    read = [texts[-1].lower() == "right" for texts in found if texts]
    return sum(read) / len(read) if read else None
