r"""Final answers in raw output: what is in a box or an ``"answer"`` field, in one way of writing.

Only what the readers need, for sources that publish outputs without grading them. Grading for
other purposes is in ``eval/graders``.
"""

from __future__ import annotations

import ast
import json
import pprint
import re
import sys
import warnings

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)"
_FRACTION = re.compile(
    rf"(-?)(?:\\[dt]?frac\s*\{{\s*({_NUMBER})\s*\}}\s*\{{\s*({_NUMBER})\s*\}}|"
    rf"({_NUMBER})\s*/\s*({_NUMBER}))"
)
_ALONE = re.compile(rf"(?<![\w.^√/*])({_NUMBER})(?![\w^√*]|/\s*\d|\.\d)")
_QUOTED = re.compile(r'"answer"\s*:\s*')
_BARE = re.compile(r'\banswer"?\s*:\s*', re.I)
_LENIENT = json.JSONDecoder(strict=False)  # line ends inside strings, as models write them


def final_answer(output: str) -> str | None:
    r"""The value of the last ``"answer"`` field; else the last box; else what follows "answer:".

    >>> final_answer('{"reasoning": "7 - 2", "answer": "5"}'), final_answer(r"so \boxed{5}.")
    ('5', '5')
    >>> final_answer('answer": 5\n}'), final_answer("five")
    ('5', None)
    """
    return _after(_QUOTED, output) or last_boxed(output) or _after(_BARE, output)


def last_boxed(output: str) -> str | None:
    r"""What stands in the last ``\boxed{}``, without braces around it.

    >>> last_boxed(r"so \boxed{\frac{1}{2}}."), last_boxed(r"\boxed{{42}}"), last_boxed("42")
    ('\\frac{1}{2}', '42', None)
    """
    _, found, rest = output.rpartition("\\boxed{")
    depth = 1
    for i, character in enumerate(rest if found else ""):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            inside = rest[:i].strip()
            while inside[:1] == "{" and inside[-1:] == "}":
                inside = inside[1:-1].strip()
            return inside or None
    return None


def _after(marker: re.Pattern[str], output: str) -> str | None:
    """The JSON value after the last marker; of what is not quite JSON, what comes near it."""
    found = list(marker.finditer(output))
    if not found:
        return None
    rest = output[found[-1].end() :]
    try:
        value = _LENIENT.raw_decode(rest)[0]
    except ValueError:
        # Unescaped quotes, Python instead of JSON, or cut off: what stands before the last brace.
        value = rest[: rest.rindex("}")] if "}" in rest else rest.partition("\n")[0]
        value = value.strip().removeprefix('"').removesuffix('"')
    return None if value is None else str(value).strip() or None


def as_number(answer: str) -> str:
    r"""A number in one way of writing: the text itself, or what ends its equation, or its only one.

    Other text stays as it is, without spaces around it.

    >>> [as_number(a) for a in ("$1,250.00", r"\frac{1}{2}", "7 - 2 = 5", "She has 18 eggs.")]
    ['1250', '0.5', '5', '18']
    >>> [as_number(a) for a in ("6√2", "2x+1", "3 or 4")]
    ['6√2', '2x+1', '3 or 4']
    """
    plain = re.sub(r"\\[$%,!]|[$#\"]|(?<=\d),(?=\d{3})", "", answer).strip()
    if "=" in plain:
        plain = plain.rpartition("=")[2].strip()
    if match := _FRACTION.fullmatch(plain):
        sign, *parts = match.groups()
        above, below = (float(part) for part in parts if part is not None)
        if below:
            return _written((-1 if sign else 1) * above / below)
    alone = _ALONE.search(plain)
    if alone and len(re.findall(r"\d+", re.sub(r"\.\d+", "", plain))) == 1:
        return _written(float(alone[1]))
    return plain


def _written(value: float) -> str:
    return f"{value + 0.0:.12g}"  # no "-0"


def as_literal(answer: str) -> str:
    """A Python literal in one way of writing, keys and elements of sets sorted; text unquoted.

    >>> as_literal("{'b': 1,'a':2}"), as_literal("'abc'"), as_literal("abc"), as_literal("( 1,)")
    ("{'a': 2, 'b': 1}", 'abc', 'abc', '(1,)')
    """
    if re.match(r"(assert\s+)?f\(", answer):  # the whole assertion, not what completes it
        answer = answer.rpartition("==")[2]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in what a model wrote is nobody's bug here
            value = ast.literal_eval(answer.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return answer.strip().strip("'\"")
    return value if isinstance(value, str) else pprint.pformat(value, width=sys.maxsize)


def as_letter(answer: str) -> str:
    """The letter of a choice, where the answer starts with one.

    >>> as_letter("(B) Paris"), as_letter("B: Paris"), as_letter("b"), as_letter("A horse")
    ('B', 'B', 'B', 'A horse')
    """
    answer = answer.strip()
    match = re.match(r"\(?([A-Z])(?:[).:]|$)", answer.upper() if len(answer) == 1 else answer)
    return match[1] if match else answer


def with_choices(question: str, choices: list[str], mark: str) -> str:
    """The question with its choices, lettered: ``mark`` follows the letter, ")" or "."."""
    lines = [f"{chr(ord('A') + i)}{mark} {choice}" for i, choice in enumerate(choices)]
    return "\n".join([question, *lines])
