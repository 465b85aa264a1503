"""The grammar of formulas: text to a tree of plain tuples, by precedence climbing.

Nothing is evaluated here and no Python is parsed (SymPy's own parser evaluates Python): what is not
in this grammar is an error that says where. Numbers are exact fractions.

    sum      := term (('+' | '-') term)*
    term     := factor (('*' | '/' | '') factor)*      2x, 3(4+5): times may be left out
    factor   := ('-' | '+') factor | power
    power    := postfix ('^' factor)?                  right to left; ** is the same
    postfix  := atom ('!' | '%')*
    atom     := number | name | name '(' sum (',' sum)* ')' | '(' sum ')'
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

Tree = tuple[Any, ...]
"""("number", Fraction), ("name", text), ("call", name, trees), ("-", a), ("!", a), ("%", a), or
(operator, a, b) with one of + - * / ^."""

MAX_CHARS = 1000
MAX_DEPTH = 60
MAX_EXPONENT = 4000
"""Of a number like 1e300."""
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)|(?P<mark>\*\*|[-+*/^!%(),]))"
)
_WRITTEN = str.maketrans(
    {"\u00d7": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "²": "^2", "³": "^3",
     "π": "pi", "{": "(", "}": ")", "[": "(", "]": ")"}
)  # fmt: skip
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])")
_OPENING = re.compile(r"√\s*(\d+(?:\.\d+)?|\()")


class BadFormula(ValueError):
    """What is wrong with a formula, and where."""


def parse(text: str) -> Tree:
    """Raises BadFormula.

    >>> parse("2x + 1")
    ('+', ('*', ('number', Fraction(2, 1)), ('name', 'x')), ('number', Fraction(1, 1)))
    """
    if len(text) > MAX_CHARS:
        raise BadFormula(f"the formula has {len(text)} characters; at most {MAX_CHARS} are read")
    written = _OPENING.sub(lambda m: "sqrt(" if m[1] == "(" else f"sqrt({m[1]})", text)
    return _Parser(written.translate(_WRITTEN)).whole()


def without_thousands(text: str) -> str:
    """1,234,567 as 1234567. Not for lists of arguments: there a comma parts them.

    >>> without_thousands("1,234 + 5")
    '1234 + 5'
    """
    return _THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def whole(self) -> Tree:
        if not self._tokens:
            raise BadFormula("the formula is empty")
        tree = self._sum()
        if self._at < len(self._tokens):
            raise self._wrong(f"unexpected {self._now!r}")
        return tree

    @property
    def _now(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    @property
    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        said = self._now
        self._at += 1
        return said

    def _wrong(self, what: str) -> BadFormula:
        place = self._tokens[self._at][2] if self._at < len(self._tokens) else len(self._text)
        return BadFormula(f"{what} at character {place + 1} of {self._text!r}")

    def _sum(self) -> Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadFormula(f"the formula is more than {MAX_DEPTH} levels deep")
        tree = self._term()
        while self._now in ("+", "-"):
            tree = (self._take(), tree, self._term())
        self._depth -= 1
        return tree

    def _term(self) -> Tree:
        tree = self._factor()
        while True:
            if self._now in ("*", "/"):
                tree = (self._take(), tree, self._factor())
            elif self._now == "(" or self._kind in ("name", "number"):
                if self._kind == "number":
                    raise self._wrong(f"an operator is missing before {self._now!r}")
                tree = ("*", tree, self._power())
            else:
                return tree

    def _factor(self) -> Tree:
        signs = 0
        negative = False
        while self._now in ("-", "+"):
            negative ^= self._take() == "-"
            signs += 1
            if signs > MAX_DEPTH:
                raise BadFormula(f"more than {MAX_DEPTH} signs in a row")
        tree = self._power()
        return ("-", tree) if negative else tree

    def _power(self) -> Tree:
        base = self._postfix()
        if self._now not in ("^", "**"):
            return base
        self._take()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadFormula(f"the formula is more than {MAX_DEPTH} levels deep")
        tree = ("^", base, self._factor())
        self._depth -= 1
        return tree

    def _postfix(self) -> Tree:
        tree = self._atom()
        while self._now in ("!", "%"):
            tree = (self._take(), tree)
        return tree

    def _atom(self) -> Tree:
        if self._kind == "number":
            return "number", _fraction(self._take())
        if self._kind == "name":
            name = self._take()
            if self._now != "(" or len(name) == 1:
                return "name", name
            return "call", name, self._arguments()
        if self._now == "(":
            [inner] = self._arguments(most=1)
            return inner
        raise self._wrong(f"unexpected {self._now!r}" if self._now else "something is missing")

    def _arguments(self, most: int = 8) -> tuple[Tree, ...]:
        self._take()
        found = [self._sum()]
        while self._now == ",":
            self._take()
            found.append(self._sum())
        if self._now != ")":
            raise self._wrong("a closing bracket is missing")
        self._take()
        if len(found) > most:
            raise self._wrong("too many values between brackets")
        return tuple(found)


def _tokens(text: str) -> list[tuple[str, str, int]]:
    """Kind, text, and place of each."""
    found, at = [], 0
    while text[at:].strip():
        token = _TOKEN.match(text, at)
        if token is None:
            rest = text[at:].lstrip()
            place = len(text) - len(rest)
            raise BadFormula(f"{rest[0]!r} cannot be read at character {place + 1} of {text!r}")
        kind = str(token.lastgroup)
        found.append((kind, token[kind], token.start(kind)))
        at = token.end()
    return found


def _fraction(text: str) -> Fraction:
    _, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent)) > MAX_EXPONENT:
        raise BadFormula(f"{text} is too large or too small; exponents go to {MAX_EXPONENT}")
    return Fraction(text)
