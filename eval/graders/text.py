"""Graders that need nothing but the two texts: is this answer that reference?

How numbers and option letters are read out of awkward text is in ``numbers`` and ``options``. A
reference that the grader cannot use raises DataError: a broken row of a question file must not
look like a wrong answer. An answer never raises, whatever it is.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import Field

from eval.graders.options import chosen_letter
from experts.answers import extract_answer
from experts.errors import DataError
from experts.numbers import last_number, only_number


def exact(answer: str, reference: str) -> float:
    """Equal but for letter case, spaces and a final stop.

    >>> exact("paris.", "Paris"), exact("PLANET", "planet"), exact("Lyon", "Paris")
    (1.0, 1.0, 0.0)
    """
    return float(extract_answer(answer).casefold() == extract_answer(reference).casefold())


def exact_case(answer: str, reference: str) -> float:
    """Like ``exact``, letter case included: for "write it in capitals".

    >>> exact_case("planet", "PLANET")
    0.0
    """
    return float(extract_answer(answer) == extract_answer(reference))


_REFERENCE_OPTION = re.compile(r"\s*[(\[]?([A-Za-z])(?:[)\].:]+\s*(\S.*)?|\s*)\Z", re.S)
_LEAD_IN = re.compile(r"\A.*\b(?:answer|choice|option)\s+(?:is|would be)\s*:?\s*", re.I | re.S)


def choice(answer: str, reference: str) -> float:
    """The same option. The reference is a letter, or letter and text as in ``B) Paris``: then an
    answer that is just the option's text is right, too.

    A letter beats a text that contradicts it, and an answer that leaves it open is wrong.

    >>> choice("The answer is (B).", "B"), choice("I think C is wrong, so B", "B")
    (1.0, 1.0)
    >>> choice("It is Paris", "B) Paris"), choice("paris.", "B) Paris")
    (0.0, 1.0)
    """
    option = _REFERENCE_OPTION.match(reference)
    if not option:
        raise DataError(
            f"The reference {_shown(reference)} of grader 'choice' is no option. It should be a "
            "letter, as in 'B', or a letter and its text, as in 'B) Paris'. Use 'exact' for text."
        )
    letter, text = option[1].upper(), option[2]
    chosen = chosen_letter(answer)
    if chosen:
        return float(chosen == letter)
    return float(text is not None and _option_text(answer) == _option_text(text))


def _option_text(text: str) -> str:
    bare = re.sub(r"[*_`$]", "", _LEAD_IN.sub("", text[-1000:]))
    return extract_answer(bare).strip(" \"'“”").casefold()


def numeric(
    answer: str,
    reference: str,
    *,
    tolerance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1e-6,
) -> float:
    """The same number, however it is written: ``1,250``, ``$1250.00``, ``\\frac{2500}{2}``.

    tolerance: relative to the reference; a reference of 0 is met by 0 only. Units behind a number
    are passed over, not converted. Where one side says percent and the other does not, 50% equals
    both 0.5 and 50, because the question may have named the unit.

    >>> numeric("about 1.25 million dollars", "1,250,000"), numeric(r"\\boxed{\\frac34}", "75%")
    (1.0, 1.0)
    >>> numeric("3.14", "3.14159"), numeric("3.14", "3.14159", tolerance=0.01)
    (0.0, 1.0)
    """
    right = only_number(reference)
    if right is None:
        raise DataError(
            f"The reference {_shown(reference)} of grader 'numeric' does not hold exactly one "
            "number. Write it as a number, with a unit if need be; use 'exact' for other answers."
        )
    given = last_number(answer)
    if given is None:
        return 0.0
    readings = {given.value}
    if given.is_percent != right.is_percent:
        readings.add(given.value * 100 if given.is_percent else given.value / 100)
    # Fractions, not floats: with tolerance 0, numbers above 2**53 still differ when they differ.
    return float(any(abs(r - right.value) <= tolerance * abs(right.value) for r in readings))


def regex(
    answer: str,
    reference: str,
    *,
    max_chars: Annotated[int, Field(ge=1, le=100_000)] = 2000,
) -> float:
    """The reference is a pattern that is found in the answer, letter case as written.

    max_chars: only the answer's last so many characters are searched. Python's ``re`` cannot be
    stopped, so this is what there is against slow patterns: it bounds those that are quadratic.
    An exponential one such as ``(a+)+$`` hangs on thirty characters; whoever writes the question
    file is trusted not to.

    >>> regex("It was in 1969.", r"\\b19(69|70)\\b"), regex("PARIS", "(?i)paris")
    (1.0, 1.0)
    """
    try:
        pattern = re.compile(reference)
    except (re.error, RecursionError, OverflowError) as error:
        raise DataError(
            f"The reference {_shown(reference)} of grader 'regex' is no pattern: {error}. "
            "It follows Python's re; plain text goes through re.escape first."
        ) from None
    return float(pattern.search(answer[-max_chars:]) is not None)


def json_fields(answer: str, reference: str) -> float:
    """Share of the reference's top-level fields that the answer's JSON has equal, in [0, 1].

    The answer's JSON is its last object, wherever it stands. Text is equal but for letter case and
    spaces, 1 equals 1.0 but neither true nor "1"; lists keep their order; fields that the
    reference does not name are passed over.

    >>> json_fields('Here: {"city": "paris", "year": 1900}', '{"city": "Paris", "year": 1889}')
    0.5
    """
    right = json_object(reference)
    if not right or _decoded(reference) != right:
        raise DataError(
            f"The reference {_shown(reference)} of grader 'json_fields' is no JSON object with "
            'fields. It should read {"city": "Paris", "year": 1889}.'
        )
    given = json_object(answer) or {}
    return sum(name in given and _equal(given[name], right[name]) for name in right) / len(right)


MAX_JSON_CHARS = 100_000
MAX_JSON_STARTS = 500
"""A brace that opens no JSON costs a look at what follows, at worst all of it."""


def json_object(text: str) -> dict[str, Any] | None:
    """The last JSON object in a text, inside prose or a fence; None where there is none.

    >>> json_object('First {"a": 1}, no: ```json\\n{"a": {"b": 2}}\\n``` done {sic}')
    {'a': {'b': 2}}
    """
    text = text[-MAX_JSON_CHARS:]
    decoder, found = json.JSONDecoder(), None
    start = text.find("{")
    for _ in range(MAX_JSON_STARTS):
        if start < 0:
            break
        try:
            found, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        start = text.find("{", end)
    return found


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _equal(given: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return (
            isinstance(given, dict)
            and given.keys() == right.keys()
            and all(_equal(given[k], right[k]) for k in right)
        )
    if isinstance(right, list):
        return (
            isinstance(given, list) and len(given) == len(right) and all(map(_equal, given, right))
        )
    if isinstance(right, str):
        return isinstance(given, str) and _same_text(given) == _same_text(right)
    # To Python True is 1; to JSON it is not.
    return isinstance(given, bool) == isinstance(right, bool) and bool(given == right)


def _same_text(text: str) -> str:
    return " ".join(text.split()).casefold()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
