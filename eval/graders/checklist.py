"""CLEAR, the checklist grader of ExpertLongBench (Ruan et al. 2025, arXiv:2506.01241).

A long answer is not compared with a reference as a whole. What it says on each item of the task's
checklist is extracted; a judge says of each item whether the answer's content is contained in the
reference's (precision) and the other way round (recall). Both are shares of *all* items, the score
is their harmonic mean; a data set's figure is the mean of these scores.

As in the authors' code (launchnlp/ExpertLongBench), an item on which either side has nothing is
not put to the judge: 1 for both when both have nothing, else 0 for both. We differ in three places:
all items are extracted by one call, not one call an item; items whose two texts are equal are not
put to the judge either, because that is free and right; the prompts are ours, without the examples.

The generator plans the calls; the arithmetic is in ``clear_score``, which no model takes part in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from eval.graders.judging import Case, Judgement, Judging, ask_judge, not_judged
from eval.graders.text import json_object
from experts.errors import DataError
from experts.values import Arm, Call, Completion

ABSENT = "N/A"
"""How a checklist says that a text has nothing on an item; the data set's own spelling."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemVerdict:
    """What the judge said of one item."""

    answer_in_reference: bool
    """Counts for precision."""
    reference_in_answer: bool
    """Counts for recall."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClearScore:
    """Shares in [0, 1] over all items of one checklist."""

    precision: float
    recall: float
    f1: float
    """0 when precision and recall are."""
    accuracy: float
    """Items that hold both ways."""


def clear_score(verdicts: Sequence[ItemVerdict]) -> ClearScore:
    """Section 4.1 of the paper; at least one item.

    >>> score = clear_score([
    ...     ItemVerdict(answer_in_reference=True, reference_in_answer=True),
    ...     ItemVerdict(answer_in_reference=True, reference_in_answer=False),
    ... ])
    >>> score.precision, score.recall, round(score.f1, 3), score.accuracy
    (1.0, 0.5, 0.667, 0.5)
    """
    n = len(verdicts)
    precision = sum(v.answer_in_reference for v in verdicts) / n
    recall = sum(v.reference_in_answer for v in verdicts) / n
    either = precision + recall
    return ClearScore(
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / either if either else 0.0,
        accuracy=sum(v.answer_in_reference and v.reference_in_answer for v in verdicts) / n,
    )


class _Reference(BaseModel):
    """A checklist and what is right, at the door."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checklist: dict[str, str] = Field(min_length=1)
    """Item to what is to be looked for under it."""
    reference: str | dict[str, str]
    """A text, of which the items are extracted as of the answer, or content by item."""


_BY_ITEM = TypeAdapter(Annotated[dict[str, str], Field(min_length=1)])


def _read_reference(text: str) -> _Reference:
    try:
        found: Any = json.loads(text)
        if isinstance(found, dict) and isinstance(found.get("checklist"), dict):
            reference = _Reference.model_validate(found)
        else:  # as in the data set: content by item, and items that explain themselves
            contents = _BY_ITEM.validate_python(found)
            reference = _Reference(checklist=dict.fromkeys(contents, ""), reference=contents)
        if isinstance(reference.reference, dict):
            unknown = reference.reference.keys() ^ reference.checklist.keys()
            if unknown:
                raise ValueError(f"{', '.join(sorted(unknown))} is not on both sides")
    except (ValueError, RecursionError) as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise DataError(
            f"The reference of grader 'checklist' cannot be read: {problem}. It should be JSON: "
            '{"checklist": {"Dose": "how much, how often"}, "reference": "the right text"}, or '
            '{"Dose": "5 mg a day"} with the right content of each item, "N/A" for none.'
        ) from None
    return reference


def checklist(
    case: Case, judge: Arm, *, max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 4096
) -> Judging:
    """F1 over the items of the reference's checklist. Two waves: extraction, then containment.

    max_tokens: of each call; an extraction repeats most of what it reads. For n items the judge is
    called at most 2 n + 2 times.
    """
    reference = _read_reference(case.reference)
    items = reference.checklist
    texts = [case.answer]
    if isinstance(reference.reference, str):
        texts.append(reference.reference)
    extracted = yield [_extraction(case, judge, items, text, max_tokens) for text in texts]
    contents = [_by_item(c, items) for c in extracted]
    if contents[0] is None or contents[-1] is None:
        return not_judged(extracted, "what was extracted is no JSON object")
    of_answer = contents[0]
    of_reference = (
        contents[-1]
        if isinstance(reference.reference, str)
        else {item: _content(reference.reference[item]) for item in items}
    )

    unclear = [i for i in items if _settled(of_answer[i], of_reference[i]) is None]
    asked: Sequence[Completion] = ()
    if unclear:
        asked = yield [
            _containment(case, judge, item, inner, outer, max_tokens)
            for item in unclear
            for inner, outer in (
                (of_answer[item], of_reference[item]),
                (of_reference[item], of_answer[item]),
            )
        ]
    history = (*extracted, *asked)
    if not all(c.ok for c in asked):
        return not_judged(history, "items were not compared")
    says = [_says_yes(c) for c in asked]
    judged = {
        item: ItemVerdict(
            answer_in_reference=bool(says[2 * i]), reference_in_answer=bool(says[2 * i + 1])
        )
        for i, item in enumerate(unclear)
    }
    score = clear_score(
        [judged.get(i) or _both(_settled(of_answer[i], of_reference[i]) is True) for i in items]
    )
    n_unread = says.count(None)
    return Judgement(
        score=score.f1,
        figures=(
            ("precision", score.precision),
            ("recall", score.recall),
            ("f1", score.f1),
            ("accuracy", score.accuracy),
        ),
        completions=history,
        notes=(f"{n_unread} replies said neither yes nor no and count as no",) if n_unread else (),
    )


def _both(holds: bool) -> ItemVerdict:
    return ItemVerdict(answer_in_reference=holds, reference_in_answer=holds)


def _settled(of_answer: str, of_reference: str) -> bool | None:
    """Whether an item holds, where that is plain; None where the judge must say."""
    if of_answer.casefold() == of_reference.casefold():
        return True
    if ABSENT in (of_answer, of_reference):
        return False
    return None


_EXTRACTION_TASK = (
    "You prepare a document for an examiner. For each item of a checklist you write down all that "
    "the document says on it, as completely as possible and in its own words, adding nothing that "
    f'it does not say. For an item on which it says nothing you write "{ABSENT}".'
)
_CONTAINMENT_TASK = (
    "You compare two notes on the same item. Does the first contain what the second says? It may "
    "say more, and in other words; it must not lack or contradict anything of substance. Whether "
    "either is true does not matter."
)


def _extraction(
    case: Case, judge: Arm, items: Mapping[str, str], text: str, max_tokens: int
) -> Call:
    wanted = json.dumps(dict(items), ensure_ascii=False, indent=1)
    return ask_judge(
        case,
        judge,
        task=f"{_EXTRACTION_TASK}\n\nThe items, and what to look for under each:\n{wanted}",
        evidence={"document": text},
        form=(
            "Reply with one JSON object and nothing else: its keys are the items of the checklist, "
            "spelled as they are there, its values are texts."
        ),
        max_tokens=max_tokens,
    )


def _containment(
    case: Case, judge: Arm, item: str, inner: str, outer: str, max_tokens: int
) -> Call:
    return ask_judge(
        case,
        judge,
        task=_CONTAINMENT_TASK,
        evidence={"item": item, "first_note": outer, "second_note": inner},
        form="Does first_note contain what second_note says? Reply with one word: Yes or No.",
        max_tokens=max_tokens,
    )


def _by_item(completion: Completion, items: Mapping[str, str]) -> dict[str, str] | None:
    """Content by item, ``ABSENT`` where nothing was extracted; None where it is no JSON."""
    found = json_object(completion.text) if completion.ok else None
    if found is None:
        return None
    by_key = {_key(k): v for k, v in found.items()}
    return {item: _content(by_key.get(_key(item))) for item in items}


def _key(text: str) -> str:
    return " ".join(text.split()).casefold()


def _content(value: Any) -> str:
    """As text, spaces collapsed: models give lists where texts were asked for."""
    if value is None:
        return ABSENT
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    elif not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    text = " ".join(value.split())
    return ABSENT if text.casefold().rstrip(".") in ("", "n/a", "none", "[]", "{}") else text


def _says_yes(completion: Completion) -> bool | None:
    """The first word, if it is yes or no; else the last of them, for a judge that thinks first."""
    words = re.findall(r"\w+", completion.text.lower())
    said = [w for w in words[:1] if w in ("yes", "no")] or [w for w in words if w in ("yes", "no")]
    return said[-1] == "yes" if said else None
