"""Reading the option that a text chooses: a letter, out of the many ways of giving one.

The options themselves are not known here. A text that names two letters alike chooses none.
"""

from __future__ import annotations

import re

MAX_CHARS = 20_000
"""Only the end of a longer text is read: the choice stands there."""

_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boldsymbol)\b\s?|[*_`~$#]|\\[()\[\]]")
_BOXED = re.compile(r"\\boxed\s?\{\s?[{(\[]?\s?([A-Za-z])\b")
_OPEN, _CLOSE = r"[(\[{<\"'“]", r"[)\]}>\"'”]"

# A single letter that is meant as one. "A" may be the article ("the answer is A rectangle") and "I"
# the examinee; lower case is a letter where brackets or punctuation show it.
_LETTER = (
    rf"(?:{_OPEN}\s?([A-Za-z])\s?{_CLOSE}"
    r"|([B-HJ-Z])(?![\w'-])"
    r"|(A)(?![\w'-])(?!\s[a-z])"
    r"|(A)(?=\s(?:because|since|as|for|which|is|was|and|or|not)\b)"
    r"|([Ia-z])(?=\s?[).:,;]|\s?$))"
)
_SAYS = re.compile(
    r"(?i:\b(?:answer|solution|response|(?:correct|right|best|only|final|my) (?:choice|option)"
    r"|(?:choice|option)(?=\s?(?:is|was|would be|must be|:)))"
    r"(?:\s(?:here|is|was|are|would be|should be|must be|has to be|seems to be|that works|:|="
    r"|option|choice|letter|most likely|probably|clearly|therefore|thus)|\s?[:=]|,)*)"
    rf"\s?{_LETTER}",
    re.M,
)
_IS_RIGHT = re.compile(
    rf"(?<![\w'.-])([A-Z])\s?{_CLOSE}?\s(?:is|seems|looks|must be)\s"
    r"(?:(?:clearly|definitely|indeed|the|most likely)\s)*(?:correct|right|best|true|answer)\b"
)
_CHOOSES = re.compile(
    r"(?i:\b(?:so|therefore|thus|hence|choose|chose|pick|select|go with|going with|it is|it's"
    r"|must be|conclude|correct|right)(?:\s(?:it|is|it's|that|must be|on|option|choice|answer"
    rf"|letter|with)|,|:)*)\s?{_LETTER}",
    re.M,
)
_ALONE = re.compile(rf"^{_OPEN}?\s?([A-Za-z])\s?{_CLOSE}?[.:]?$", re.M)
_LEADS = re.compile(rf"^(?:{_OPEN}\s?([A-Za-z])\s?{_CLOSE}|([A-Za-z])\s?[).:](?!\w))", re.M)
_STANDS = re.compile(
    rf"(?<!\w){_OPEN}([A-Za-z]){_CLOSE}|(?<![\w'.-])(?:([B-HJ-Z])(?![\w'-])|(A)(?![\w'-])(?!\s[a-z])"
    r"|(A)(?=\s(?:or|and|is|was)\b))"
)

_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n't be|n't|\bneither|\bnor|\beliminat\w*|\brul\w* out|\bexclud\w*|\breject\w*"
    r"|\bexcept|\bunlike|\bthan)(?:\s(?:option|choice|answer|be))?\s?[(\[]?$",
    re.I,
)
_DENIED_AFTER = re.compile(
    r"[)\]]?\s(?:is|are|was|looks|seems|cannot|can't|can)\s?(?:be|clearly|also|obviously)?\s?"
    r"(?:not|n't|wrong|incorrect|false|out|impossible|ruled|eliminated|unlikely|be right"
    r"|be correct)\b|[)\]]?\s(?:isn't|wasn't|cannot|can't)\b",
    re.I,
)
_HEDGED = re.compile(
    rf"[)\]]?\s?(?:or|and|/|,|&)\s?(?:possibly |maybe |perhaps |even )?{_OPEN}?([A-Z])(?![\w'])"
)
_FAILS = re.compile(r"[^.\n]*\b(?:wrong|incorrect|false|not)\b|[^\n]* \(?[A-Z][).]\s")
"""What follows a leading letter that is not chosen: it is denied, or the options stand in a row."""


def chosen_letter(text: str) -> str | None:
    """The upper-case letter that a text gives as its answer; None where it gives none, or two.

    >>> chosen_letter("The answer is (B)."), chosen_letter("I think C is wrong, so B")
    ('B', 'B')
    >>> chosen_letter("Either A or B.") is None
    True
    """
    text = text[-MAX_CHARS:].replace("\u2019", "'")
    if boxed := _BOXED.findall(_MARKUP.sub("", text)):
        return str(boxed[-1]).upper()
    plain = re.sub(r"[^\S\n]+", " ", _MARKUP.sub("", text)).strip()
    plain = re.sub(r" ?\n\s*", "\n", plain)
    for pattern in (_SAYS, _IS_RIGHT, _CHOOSES):
        if found := _meant(pattern, plain):
            letter, end = found[-1]
            hedge = _HEDGED.match(plain, end)
            if hedge and hedge[1] != letter and not _denied(plain, hedge.start(1), hedge.end(1)):
                return None
            return letter
    # No phrase says it. A letter that has a line of its own, leads one, or stands alone says it, if
    # it is the only one that does: options that are merely listed choose nothing.
    for pattern in (_ALONE, _LEADS, _STANDS):
        letters = {
            letter
            for letter, end in _meant(pattern, plain)
            if pattern is not _LEADS or not _FAILS.match(plain, end + 1)
        }
        if len(letters) == 1:
            return letters.pop()
    return None


def _meant(pattern: re.Pattern[str], plain: str) -> list[tuple[str, int]]:
    """Letters that the pattern finds and the words around do not deny, each with where it ends."""
    found = []
    for match in pattern.finditer(plain):
        group = match.lastindex or 0
        if not _denied(plain, match.start(group), match.end(group)):
            found.append((match[group].upper(), match.end(group)))
    return found


def _denied(plain: str, start: int, end: int) -> bool:
    before = plain[max(0, start - 40) : start]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(plain, end))
