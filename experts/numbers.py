"""Reading a number out of text: the notations that models and references write numbers in.

Thousands separators, currencies, percent, fractions, powers of ten, LaTeX. Nothing is computed but
the fraction and the power of ten: ``2\\sqrt{3}`` is no number here, and units are not converted.
Whether two numbers are equal enough is for graders to say.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

MAX_CHARS = 20_000
"""Only the end of a longer text is read: the final answer stands there."""
MAX_DIGITS = 400
"""A longer number is nobody's answer, and 1e999999999 as an exact fraction fits no memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number as it was written."""

    value: Fraction
    """50% is 1/2."""
    is_percent: bool = False


def last_number(text: str) -> Number | None:
    """The number that a text gives as its answer; None where it gives none.

    That is the first number of the last ``\\boxed{}``, else of what follows the last ``####`` or
    ``Answer:`` (an equation's left side skipped), else the last number of the whole text.

    >>> str(last_number("So 3 bags cost $1,250.50 in all.").value)
    '2501/2'
    >>> str(last_number(r"The answer is $\\frac{3}{4}$, as 1 - 1/4.").value)
    '3/4'
    """
    text = text[-MAX_CHARS:]
    boxed = _last_boxed(text)
    if boxed is not None:
        return next(iter(_numbers(_without_left_side(_plain(boxed)))), None)
    plain = _plain(text)
    *_, tail = _MARKER.split(plain)
    if tail != plain and (found := _numbers(_without_left_side(tail))):
        return found[0]
    found = _numbers(plain)
    return found[-1] if found else None


def only_number(text: str) -> Number | None:
    """The number of a reference: None also where it holds several, so that nobody has to guess."""
    boxed = _last_boxed(text)
    plain = _plain(text if boxed is None else boxed)
    *_, tail = _MARKER.split(plain)
    found = _numbers(_without_left_side(tail))
    return found[0] if len(found) == 1 else None


_MARKER = re.compile(r"####|\banswer\b(?: is\b ?:?| ?[:=])", re.I)
_LEFT_SIDE = re.compile(r"(?:\s*(?:[A-Za-z]\w?|[-+*/().,^%\d ]+) ?=)+")
"""``x =`` or ``3 * 4 =``, but not ``5 (as x =``."""

# Every pattern below runs on text whose white space is single spaces, so that none is quadratic in
# a long run of it.
_SPACE = re.compile(r"\s+")
_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_VULGAR = re.compile("[¼-¾⅐-⅞]")
_WRITTEN_AS = str.maketrans(  # minus sign, figure dash, fraction slash; cross, dots
    "\u2212\u2012\u2044\u00d7\u00b7\u22c5\u2219", "--/****"
)
_DIGIT_SPACE = re.compile(
    r"(?<=\d)(?:[\u00a0\u2009\u202f'\u2019_]|\\[,!;:]|\{,\}|,\\!)(?=\d{3}(?!\d))"
)
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|operatorname|mbox)\b ?")
_FRAC = re.compile(r"\\[dtc]?frac ?(?:{ ?([^{}]*?) ?}|(\d)) ?(?:{ ?([^{}]*?) ?}|(\d))")
_NOT_COMPUTED = re.compile(
    r"\\(?:sqrt|pi|log|ln|exp|sin|cos|tan|cot|infty|binom|sum|prod|int)(?![A-Za-z])|[√π∞]"
)
_NESTED = re.compile(r"([√_^]) ?\{([^{}]*)\}")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)")
_POWER = re.compile(r"\^ ?[{(]? ?([-+]?\d+) ?[)}]?")
_TIMES_TEN_TO = re.compile(r"(?<=\d) ?[*xX] ?10\^([-+]?\d+)")
_TEN_TO = re.compile(r"(?<![\w.,^])10\^([-+]?\d+)")
_CURRENCY = re.compile(r"(-?) ?[$€£¥₹] ?")
_DASH = re.compile(r"(?<![\d)\w])[\u2013\u2014] ?(?=\d)")  # a minus, where no range ends in it
_SPACED_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?")


def _plain(text: str) -> str:
    """Without typography: superscripts as ``^5``, ``\\frac`` as ``3/4``, no currency, no markup.

    What stands for a number that is not computed here becomes ``√``, which no number may touch.
    """
    text = _SUPERSCRIPT.sub(lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    text = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m[0]), text)
    text = _DIGIT_SPACE.sub("", text)
    text = unicodedata.normalize("NFKC", text).translate(_WRITTEN_AS)
    text = _SPACE.sub(" ", text.replace("\\$", "$").replace("\\%", "%").replace("\\!", ""))
    text = re.sub(r"(?<!\d)10 ?\*\* ?(?=[-+]?\d)", "10^", text)
    text = re.sub(r"\*\*|__|`|~", " ", text)  # bold, code, LaTeX's hard space
    text = re.sub(r"\\(?:times|cdot) ?", "*", text)
    text = _WRAPPER.sub(" ", text)
    text = _NESTED.sub(r"\1\2", _NOT_COMPUTED.sub("√", text))
    text = _FRAC.sub(_slashed, _FRAC.sub(_slashed, text))  # twice: one may stand inside of another
    text = _COMMAND.sub(" ", text)
    text = _POWER.sub(r"^\1", text)
    text = re.sub(r"√[ {(\[]+", "√", text)
    text = _CURRENCY.sub(r" \1", re.sub("[{}]", " ", text))
    text = _TIMES_TEN_TO.sub(r"e\1", text)
    text = _TEN_TO.sub(r"1e\1", text)
    text = _DASH.sub("-", text)
    text = _SPACE.sub(" ", text).strip()
    # Only where nothing else stands: "of 100 200 were right" has two numbers.
    return text.replace(" ", "") if _SPACED_THOUSANDS.fullmatch(text) else text


def _slashed(frac: re.Match[str]) -> str:
    above, below = frac[1] or frac[2] or "", frac[3] or frac[4] or ""
    if not (re.fullmatch(r"-?[\d.,]+", above) and re.fullmatch(r"[\d.,]+", below)):
        return "√"
    mixed = frac.start() > 0 and frac.string[frac.start() - 1].isdigit()
    return f"{' ' if mixed else ''}{above}/{below} "


def _without_left_side(plain: str) -> str:
    matched = _LEFT_SIDE.match(plain)
    return plain[matched.end() :] if matched else plain


def _last_boxed(text: str) -> str | None:
    """What the last ``\\boxed{...}`` holds; braces inside it are balanced."""
    start = text.rfind("\\boxed")
    if start < 0:
        return None
    depth = 0
    inside = text[start + len("\\boxed") :].lstrip()
    for i, char in enumerate(inside):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return inside[1:i] if inside[0] == "{" else inside[:1]
    return inside.lstrip("{")  # cut off by a token limit


_BODY = (
    r"(?:[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?"  # 1,234,567.8
    r"|[1-9]\d{0,2}(?:\.\d{3})+,\d+|[1-9]\d{0,2}(?:\.\d{3}){2,}"  # 1.234.567,8
    r"|[1-9]\d?(?:,\d{2})+,\d{3}(?:\.\d+)?"  # 12,34,567: lakh and crore
    r"|(?<!\d,)\d+,\d+(?!,\d)"  # 3,14: a comma that parts no thousands is a decimal one
    r"|\d+(?:\.\d+)?|\.\d+)"
)
_NUMBER = re.compile(
    r"(?<![\w.^√])(?<!√-)(?P<sign>(?:(?<![\w)])[-+] ?)?)(?:"
    r"(?P<whole>\d{1,9}) (?P<part>\d{1,9}/\d{1,9})(?![\d/])"
    rf"|(?P<body>{_BODY})(?P<exponent>(?:[eE][-+]?\d+)?)(?!\d|\.\d)"
    rf"(?: ?/ ?(?P<below>{_BODY})(?! ?/|\d|\.\d))?)"
    r"(?! ?[\^√])"
    r"(?P<percent>(?: ?(?:%|percent\b|per cent\b|pct\b))?)"
    r"(?: (?P<scale>hundred|thousand|million|billion|trillion)\b)?",
    re.I,
)
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}


def _numbers(plain: str) -> list[Number]:
    return [number for m in _NUMBER.finditer(plain) if (number := _read(m)) is not None]


def _read(match: re.Match[str]) -> Number | None:
    """None where the digits make no number: over zero, or too long to be meant."""
    if len(match[0]) > MAX_DIGITS:
        return None
    if match["whole"]:
        above, _, below = match["part"].partition("/")
        if int(below) == 0:
            return None
        value = Fraction(match["whole"]) + Fraction(int(above), int(below))
    else:
        exponent = int(match["exponent"][1:] or 0)
        if abs(exponent) > MAX_DIGITS:
            return None
        value = _decimal(match["body"]) * Fraction(10) ** exponent
        if match["below"]:
            divisor = _decimal(match["below"])
            if divisor == 0:
                return None
            value /= divisor
    if match["scale"]:
        value *= 10 ** _SCALES[match["scale"].lower()]
    if match["percent"]:
        value /= 100
    if match["sign"].startswith("-"):
        value = -value
    return Number(value=value, is_percent=bool(match["percent"]))


def _decimal(body: str) -> Fraction:
    """Digits with at most one decimal mark; the grammar above has told which one that is."""
    if "," in body and "." in body:
        decimal = max(body.rfind(","), body.rfind("."))
        return Fraction(re.sub("[.,]", "", body[:decimal]) + "." + body[decimal + 1 :])
    if re.fullmatch(r"[1-9]\d{0,2}(?:,\d{2,3})*,\d{3}|[1-9]\d{0,2}(?:\.\d{3}){2,}", body):
        return Fraction(re.sub("[.,]", "", body))
    return Fraction(body.replace(",", "."))
