"""Holes and oddities: coverage, prices, columns that say nothing, splits that are not alike."""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np

from eval.audit.findings import Finding, Severity, listed
from eval.outcomes.matrix import OutcomeMatrix
from eval.outcomes.pools import MIN_COVERAGE

_MANY = 20
"""Outcomes below which a column that is always right or wrong is no wonder."""
_P = 1e-3


def coverage(matrix: OutcomeMatrix) -> list[Finding]:
    """Who was not asked what, and whether what was left out is easier or harder."""
    shares = dict(zip(matrix.models, matrix.coverage(), strict=True))
    low = {m: s for m, s in shares.items() if s < MIN_COVERAGE}
    found = []
    if low:
        found.append(
            Finding(
                check="coverage",
                severity="warning",
                what=f"{len(low)} of {len(shares)} models answered less than {MIN_COVERAGE:.0%} of "
                f"the queries: {listed(f'{m} {s:.0%}' for m, s in low.items())}",
                advice="They are left out of a pool unless named; compare on common queries only.",
                n=len(low),
            )
        )
    biased = []
    for j, model in enumerate(matrix.models):
        missing = np.isnan(matrix.score[:, j])
        others = np.delete(matrix.score, j, axis=1)
        easy = _mean_of_known(others)
        asked, left = easy[~missing & ~np.isnan(easy)], easy[missing & ~np.isnan(easy)]
        if shares[model] >= MIN_COVERAGE and _p_value(asked, left) < _P / len(shares):
            biased.append(f"{model} ({left.mean():.0%} against {asked.mean():.0%})")
    if biased:
        found.append(
            Finding(
                check="missing-not-at-random",
                severity="warning",
                what="What these models did not answer is not what they did, judged by the others' "
                f"accuracy: {listed(biased)}",
                advice="Failed calls may have been dropped: count them as wrong.",
                n=len(biased),
            )
        )
    what = f"All {len(shares)} models answered {MIN_COVERAGE:.0%} of the queries or more."
    return found or [Finding(check="coverage", severity="fine", what=what)]


def prices(matrix: OutcomeMatrix) -> list[Finding]:
    """Unknown costs, and costs of nothing."""
    answered = ~np.isnan(matrix.score)
    unknown = {
        m: float(np.isnan(c[a]).mean())
        for m, c, a in zip(matrix.models, matrix.cost_usd.T, answered.T, strict=True)
        if a.any() and np.isnan(c[a]).any()
    }
    free = [
        m
        for m, c in zip(matrix.models, matrix.cost_usd.T, strict=True)
        if (~np.isnan(c)).any() and (c[~np.isnan(c)] == 0).all()
    ]
    found = []
    if unknown:
        found.append(
            Finding(
                check="unknown-prices",
                severity="severe",
                what=f"{len(unknown)} models have outcomes of unknown cost: "
                f"{listed(f'{m} {s:.0%}' for m, s in unknown.items())}",
                advice="Fill in cost_usd, or leave them out of the pool (--pool FILE); never 0.",
                n=len(unknown),
            )
        )
    if free:
        found.append(
            Finding(
                check="free-models",
                severity="warning",
                what=f"{listed(free)}: every answer cost 0 $",
                advice="If the price is unknown, leave the cells empty; a free model wins all.",
                n=len(free),
            )
        )
    return found or [Finding(check="prices", severity="fine", what="Every cost is known.")]


def constants(matrix: OutcomeMatrix) -> list[Finding]:
    """Columns without information, columns that are there twice, and fields that are missing."""
    found = []
    known = matrix.score[~np.isnan(matrix.score)]
    if len(known) == 0 or len(np.unique(known)) == 1:
        told = "there are no scores" if len(known) == 0 else f"every score is {known[0]:g}"
        found.append(
            Finding(
                check="one-class",
                severity="severe",
                what=f"Nothing can be learned: {told}",
                advice="Record questions that some models get right and some wrong.",
                n=len(matrix),
            )
        )
    never, always, stuck = [], [], []
    for j, model in enumerate(matrix.models):
        score = matrix.score[~np.isnan(matrix.score[:, j]), j]
        if len(score) >= _MANY and (score == 0).all():
            never.append(model)
        if len(score) >= _MANY and (score == 1).all():
            always.append(model)
        said = Counter(p for p in matrix.pred[:, j] if p is not None)
        if said and said.total() >= _MANY and len(said) == 1:
            stuck.append(f"{model} ({next(iter(said))!r})")
    kinds: list[tuple[str, list[str], Severity, str, str]] = [
        ("never-right", never, "warning", "never right", "A broken call or grader looks like this"),
        ("always-right", always, "warning", "always right", "Look at the grader"),
        ("constant-answer", stuck, "warning", "one answer to everything", "Look at the extraction"),
    ]
    for check, models, severity, what, advice in kinds:
        if models:
            found.append(
                Finding(
                    check=check,
                    severity=severity,
                    what=f"{listed(models)}: {what}",
                    advice=f"{advice}; a model that really is so only costs.",
                    n=len(models),
                )
            )
    twins = [
        f"{matrix.models[i]} = {matrix.models[j]}"
        for i in range(len(matrix.models))
        for j in range(i + 1, len(matrix.models))
        if _same_column(matrix, i, j)
    ]
    if twins:
        found.append(
            Finding(
                check="same-column",
                severity="warning",
                what=f"The same outcomes under two names: {listed(twins)}",
                advice="Keep one: votes and essentialness count it twice.",
                n=len(twins),
            )
        )
    found += _missing_fields(matrix)
    what = "No column is constant, doubled or missing."
    return found or [Finding(check="columns", severity="fine", what=what)]


def balance(matrix: OutcomeMatrix) -> list[Finding]:
    """Whether the splits are samples of one thing: tasks, and how hard their queries are."""
    split = np.array([str(q.split) for q in matrix.queries])
    names = sorted(set(split))
    check = "splits-differ"
    if names == ["None"]:
        what = "No splits: everything would be used to choose, nothing is left to report on."
        return [Finding(check="splits", severity="note", what=what)]
    found = []
    if "None" in names:
        n = int((split == "None").sum())
        what = f"{n} queries have no split and count as development queries"
        found.append(Finding(check="splits", severity="note", what=what, n=n))
    if set(names) <= {"test"}:
        found.append(
            Finding(
                check="splits",
                severity="severe",
                what="All queries are of the test split: there is nothing to choose on",
                advice="Add train or val queries.",
                n=len(matrix),
            )
        )
    elif "test" not in names:
        what = "No test split: choices can be made, results cannot be reported."
        found.append(Finding(check="splits", severity="note", what=what))
    if len(names) > 1:
        found += _tasks_by_split(matrix.tasks.astype(str), split, names)
        # How hard a query is, whoever answers: says nothing of which model is best on which split.
        easy = _mean_of_known(matrix.score)
        within = easy - _task_means(easy, matrix.tasks)
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        worst = min(
            (
                (_p_value(within[(split == a) & ~np.isnan(within)],
                          within[(split == b) & ~np.isnan(within)]), a, b)
                for a, b in pairs
            ),
        )  # fmt: skip
        p, a, b = worst
        if p * len(pairs) < _P:
            rates = ", ".join(f"{s} {np.nanmean(easy[split == s]):.1%}" for s in (a, b))
            found.append(
                Finding(
                    check=check,
                    severity="warning",
                    what=f"Within tasks, {a} and {b} are not equally hard (p = {p:.1e}); mean "
                    f"score over all models: {rates}",
                    advice="Split at random, or report by stratum: validation does not carry over.",
                    n=len(matrix),
                )
            )
    what = f"The splits ({', '.join(names)}) differ in tasks and difficulty by luck at most."
    serious = [f for f in found if f.check != "splits"]
    if not serious and len(names) > 1:
        found.append(Finding(check=check, severity="fine", what=what))
    return found


def _tasks_by_split(tasks: np.ndarray, split: np.ndarray, names: list[str]) -> list[Finding]:
    from scipy.stats import chi2_contingency

    kinds = sorted(set(tasks))
    counts = np.array([[int(((split == s) & (tasks == t)).sum()) for t in kinds] for s in names])
    found = []
    if "test" in names and len(names) > 1:
        test = counts[names.index("test")]
        unseen = [
            t
            for t, n, all_of in zip(kinds, test, counts.sum(axis=0), strict=True)
            if n > 0 and n == all_of
        ]
        if unseen:
            found.append(
                Finding(
                    check="unseen-tasks",
                    severity="warning",
                    what=f"Tasks with test queries only: {listed(unseen)}",
                    advice="Report them apart: they are out of distribution.",
                    n=len(unseen),
                )
            )
    if len(kinds) > 1 and (p := float(chi2_contingency(counts).pvalue)) < _P:
        found.append(
            Finding(
                check="tasks-by-split",
                severity="warning",
                what=f"The splits do not have the same mix of tasks (chi-squared p = {p:.1e})",
                advice="Compare within tasks, or split each task alike.",
                n=len(tasks),
            )
        )
    return found


def _missing_fields(matrix: OutcomeMatrix) -> list[Finding]:
    found = []
    silent = [
        m for m, said in zip(matrix.models, matrix.pred.T, strict=True) if not any(
            p is not None for p in said
        )
    ]  # fmt: skip
    if silent:
        what = f"Answers (pred) of {listed(silent)} were not recorded"
        advice = "Votes and cascades cannot be replayed with them."
        found.append(
            Finding(check="no-answers", severity="note", what=what, advice=advice, n=len(silent))
        )
    no_tokens = [
        m
        for m, tokens in zip(matrix.models, matrix.output_tokens.T, strict=True)
        if np.isnan(tokens).all()
    ]
    if no_tokens:
        what = f"Output tokens of {listed(no_tokens)} are unknown"
        advice = "How long an answer is says how hard it was; composition goes without."
        found.append(
            Finding(check="no-tokens", severity="note", what=what, advice=advice, n=len(no_tokens))
        )
    return found


def _same_column(matrix: OutcomeMatrix, i: int, j: int) -> bool:
    a, b = matrix.score[:, i], matrix.score[:, j]
    both = ~np.isnan(a) & ~np.isnan(b)
    if both.sum() < _MANY or not (a[both] == b[both]).all():
        return False
    answers = [
        (p, q)
        for p, q in zip(matrix.pred[both, i], matrix.pred[both, j], strict=True)
        if p is not None and q is not None
    ]
    if answers:
        return all(p == q for p, q in answers)
    return len(np.unique(a[both])) > 1  # two that are always wrong are not one


def _mean_of_known(scores: np.ndarray) -> np.ndarray:
    """(n,) mean of what is known in each row; NaN where nothing is."""
    if scores.shape[1] == 0:
        return np.full(len(scores), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result: np.ndarray = np.nanmean(scores, axis=1)
        return result


def _task_means(values: np.ndarray, tasks: np.ndarray) -> np.ndarray:
    means = np.zeros(len(values))
    for task in set(tasks):
        here = tasks == task
        known = values[here][~np.isnan(values[here])]
        means[here] = known.mean() if len(known) else np.nan
    return means


def _p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided, of Welch's test; 1 where there is too little to tell."""
    from scipy.stats import norm

    if min(len(a), len(b)) < _MANY:
        return 1.0
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return float(2 * norm.sf(abs(a.mean() - b.mean()) / error)) if error > 0 else 1.0
