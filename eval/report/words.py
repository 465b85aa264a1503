"""The two answers in plain words, as strong as the intervals allow and no stronger."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eval.report.figures import Pick, ReportFigures
from eval.report.writing import dollars, percent, percent_range, points, points_range
from eval.routing.verdict import MARGIN

POLICIES = {
    "best-single": "one model for every query, the most accurate on the development queries",
    "cheapest": "one model for every query, the cheapest on the development queries",
    "best-per-task": "the best model of each task, told which task a query is of",
    "random": "a model drawn at random; its expectation",
    "oracle": "the cheapest model that is right, told which are: nobody who asks one model a query "
    "gets further",
    "composition": "asks one model or several, and more after seeing answers, while that is "
    "expected to gain more than it costs",
}
"""What the policies do; every other one is a router that predicts P(right) of each model from the
query and asks the one with the most P(right) - cost / V."""
ROUTER = "a learned router: asks the one model with the most P(right) − cost / V"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerText:
    """A question, its answer in a figure and a sentence, and what it rests on."""

    question: str
    figure: str
    answer: str
    evidence: str


def answers(f: ReportFigures) -> list[AnswerText]:
    return [_equal(f), _any_price(f)]


def title(f: ReportFigures) -> str:
    """The report's finding in a line."""
    low, high = f.equal.difference_ci
    cheaper = not f.equal.is_the_single and f.equal.cost_ratio_ci[1] < 1 and high >= 0
    better = f.best.difference_ci[0] > 0
    gain = f"{points(f.best.difference).lstrip('+')} points better"
    as_good = (
        f"{'As good as' if low >= -MARGIN else 'Not shown to be worse than'} {f.best_model} at "
        f"{percent(f.equal.cost_ratio, digits=0)} of its cost"
    )
    at_most = _cost(f.best)
    if cheaper and better:
        return f"{as_good}; {gain} {at_most.replace('of its cost', 'of it')}"
    if better:
        return f"{gain} than {f.best_model}, {at_most}"
    if cheaper:
        return as_good
    return f"Nothing here is shown to beat {f.best_model}"


def _equal(f: ReportFigures) -> AnswerText:
    pick, single = f.equal, f.verdict.best_single
    question = "Can the best single model's accuracy be had for less?"
    if pick.is_the_single:
        return AnswerText(
            question=question,
            figure="100 %",
            answer=f"No: nothing that was tried surely held {f.best_model}'s accuracy for less.",
            evidence="On the development queries no cheaper policy was surely as accurate.",
        )
    low, high = pick.difference_ci
    ratio = percent(pick.cost_ratio, digits=0)
    if high < 0:
        verdict = (
            f"Not quite: {pick.figures.policy} costs {ratio} of {f.best_model}, but is less "
            "accurate on test."
        )
    elif pick.cost_ratio_ci[1] >= 1:
        verdict = (
            f"Not shown: {pick.figures.policy} may be no cheaper than {f.best_model}; on test it "
            f"cost {ratio} of it."
        )
    elif low >= -MARGIN:
        verdict = f"Yes: {pick.figures.policy} is as good as {f.best_model} at {ratio} of its cost."
    else:
        verdict = (
            f"Perhaps: {pick.figures.policy} costs {ratio} of {f.best_model}, and no loss of "
            f"accuracy is shown; {len(pick.point.test_score)} queries cannot exclude one of "
            f"{points(-low).lstrip('+')} points."
        )
    return AnswerText(
        question=question, figure=ratio, answer=verdict, evidence=_evidence(pick, single.accuracy)
    )


def _any_price(f: ReportFigures) -> AnswerText:
    pick, single = f.best, f.verdict.best_single
    question = "How good does it get at any price?"
    if pick.is_the_single:
        return AnswerText(
            question=question,
            figure=percent(single.accuracy),
            answer=f"As good as {f.best_model}, the best single model: nothing was better.",
            evidence="On the development queries no policy was more accurate.",
        )
    low, high = pick.difference_ci
    how = (
        "better than" if low > 0 else "worse than" if high < 0 else "not shown to differ from"
    )  # fmt: skip
    return AnswerText(
        question=question,
        figure=f"{points(pick.difference)} points",
        answer=f"Right on {percent(pick.figures.accuracy)} of the queries, {how} {f.best_model}'s "
        f"{percent(single.accuracy)}: {pick.figures.policy}, {_cost(pick)}.",
        evidence=_evidence(pick, single.accuracy),
    )


def _cost(pick: Pick) -> str:
    """Of a pick, beside the best single model's."""
    if math.isnan(pick.cost_ratio):
        return (
            f"for ${dollars(pick.figures.cost_usd_per_1k)} per 1000 queries where that one is free"
        )
    return f"at {percent(pick.cost_ratio, digits=0)} of its cost"


def _evidence(pick: Pick, single_accuracy: float) -> str:
    return (
        f"Accuracy {percent(pick.figures.accuracy)} against {percent(single_accuracy)}: "
        f"{points(pick.difference)} points, 95 % interval {points_range(pick.difference_ci)}. "
        f"Cost ratio {percent(pick.cost_ratio)}, interval {percent_range(pick.cost_ratio_ci)}. "
        f"${dollars(pick.figures.cost_usd_per_1k)} per 1000 queries."
    )
