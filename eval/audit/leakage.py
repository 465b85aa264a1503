"""Answers where they should not be, and outcomes that do not fit the answers.

What a prompt contains is compared with a control, the answers of other questions of the task: that
"4" occurs in a sum, or "B" in every list of options, is no leak.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from eval.audit.findings import Finding, listed, shown
from eval.outcomes.matrix import MatrixQuery, OutcomeMatrix
from experts.equality import canonical

_EXCESS = 0.1
"""Share of a task's prompts with their own answer, above the control's, that is worth a line."""
_Z = 4.0
_MARKED = r"(?:answer|solution|correct (?:option|choice))\s*(?:is|:|=)\s*[\s*(\[\"'$]*{}(?!\w)"
_MAX_CELLS = 20_000
"""Outcomes compared with the reference; a random sample of more."""
LENIENT_SHARE, HARSH_SHARE = 0.05, 0.01


def answers_in_prompts(queries: Sequence[MatrixQuery], *, seed: int = 0) -> list[Finding]:
    """Prompts that contain their own answer more often than another question's."""
    known = [q for q in queries if q.answer and q.answer.strip()]
    if not known:
        what = "No reference answers: whether prompts give them away cannot be seen."
        return [Finding(check="answer-in-prompt", severity="note", what=what)]
    rng = np.random.default_rng(seed)
    found, contained, told = [], [], []
    for task in sorted({q.task for q in known}):
        some = [q for q in known if q.task == task]
        others = _deranged(some, rng)
        own = [_contains(q.prompt, q.answer) for q in some]
        control = [_contains(q.prompt, o.answer) for q, o in zip(some, others, strict=True)]
        if _beyond_luck(own, control) and np.mean(own) - np.mean(control) > _EXCESS:
            contained.append((task, float(np.mean(own)), float(np.mean(control)), some))
        own = [_gives_away(q.prompt, q.answer) for q in some]
        control = [_gives_away(q.prompt, o.answer) for q, o in zip(some, others, strict=True)]
        if _beyond_luck(own, control):
            told += [q for q, yes in zip(some, own, strict=True) if yes]
    if told:
        found.append(
            Finding(
                check="answer-given-away",
                severity="severe",
                what=f'{len(told)} prompts say "answer: ..." with their own answer',
                advice="Cut the reference out of the prompts and record the outcomes anew.",
                n=len(told),
                examples=shown(f"{q.query_id}: ...{q.prompt[-80:]}" for q in told),
            )
        )
    if contained:
        tasks = (f"{t} {own:.0%} (others' answers {c:.0%})" for t, own, c, _ in contained)
        examples = (
            f"{q.query_id}: answer {q.answer!r}"
            for _, _, _, some in contained
            for q in some
            if _contains(q.prompt, q.answer)
        )
        found.append(
            Finding(
                check="answer-in-prompt",
                severity="warning",
                what=f"Prompts contain their own answer beyond luck: {listed(tasks)}",
                advice="Right where options are listed or a text is quoted; else the answer leaks.",
                n=sum(len(some) for *_, some in contained),
                examples=shown(examples),
            )
        )
    what = f"None of {len(known)} prompts gives its answer away beyond luck."
    return found or [Finding(check="answer-in-prompt", severity="fine", what=what)]


def scores_and_answers(matrix: OutcomeMatrix, *, seed: int = 0) -> list[Finding]:
    """Outcomes whose score disagrees with whether the answer given is the reference."""
    check = "score-disagrees"
    has_answer = np.array([q.answer is not None for q in matrix.queries], bool)
    said = np.array([[p is not None for p in row] for row in matrix.pred], bool)
    rows, columns = np.nonzero(said & has_answer[:, None] & ~np.isnan(matrix.score))
    if len(rows) == 0:
        what = "No outcome has both an answer and a reference: scores cannot be checked."
        return [Finding(check=check, severity="note", what=what)]
    rng = np.random.default_rng(seed)
    if len(rows) > _MAX_CELLS:
        some = np.sort(rng.choice(len(rows), _MAX_CELLS, replace=False))
        rows, columns = rows[some], columns[some]
    harsh: list[str] = []
    lenient: list[str] = []
    for i, j in zip(rows, columns, strict=True):
        query, pred = matrix.queries[i], str(matrix.pred[i, j])
        same = _equal(pred, str(query.answer))
        right = matrix.score[i, j] > 0.5
        if same != right:
            text = f"{query.query_id}, {matrix.models[j]}: {pred!r} for {query.answer!r}"
            (harsh if same else lenient).append(text)
    found = []
    looked = f"of {len(rows)} outcomes looked at"
    if harsh:
        share = len(harsh) / len(rows)
        found.append(
            Finding(
                check=check,
                severity="severe" if share > HARSH_SHARE else "note",
                what=f"{len(harsh)} {looked} ({share:.1%}) equal the reference and score as wrong",
                advice="Grade again, or find out which of answer and score belongs to it.",
                n=len(harsh),
                examples=shown(harsh),
            )
        )
    if lenient:
        share = len(lenient) / len(rows)
        found.append(
            Finding(
                check="score-lenient",
                severity="warning" if share > LENIENT_SHARE else "note",
                what=f"{len(lenient)} {looked} ({share:.1%}) differ from the reference and score "
                "as right",
                advice="Right where a grader accepts other wordings: look at the examples.",
                n=len(lenient),
                examples=shown(lenient),
            )
        )
    what = f"Scores agree with the references, {looked}."
    return found or [Finding(check=check, severity="fine", what=what)]


def _equal(pred: str, answer: str) -> bool:
    a, b = canonical([pred, answer])
    if a is None or b is None:
        return False
    # Options are letters in either case; in other answers (code, names) case may count.
    return a == b or (len(b) == 1 and a.casefold() == b.casefold())


def _words(text: str) -> str:
    return " " + " ".join(re.findall(r"\w+", text.lower())) + " "


def _contains(prompt: str, answer: str | None) -> bool:
    wanted = _words(answer or "")
    return bool(wanted.strip()) and wanted in _words(prompt)


def _gives_away(prompt: str, answer: str | None) -> bool:
    text = (answer or "").strip()
    return bool(text) and bool(re.search(_MARKED.format(re.escape(text)), prompt, re.I))


def _deranged(queries: Sequence[MatrixQuery], rng: np.random.Generator) -> list[MatrixQuery]:
    """Another query for each: a random cycle (the same one where there is only one)."""
    order = rng.permutation(len(queries))
    other = np.empty(len(queries), int)
    other[order] = np.roll(order, 1)
    return [queries[k] for k in other]


def _beyond_luck(own: Sequence[bool], control: Sequence[bool]) -> bool:
    """Paired: whether own answers are found more often than others' by four standard errors."""
    gap = np.asarray(own, float) - np.asarray(control, float)
    if len(gap) < 5:
        return False
    return bool(gap.mean() > _Z * max(gap.std(), 0.5 / np.sqrt(len(gap))) / np.sqrt(len(gap)))
