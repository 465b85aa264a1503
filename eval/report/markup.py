"""Markup that cannot be broken into: every text goes through one door, and comes out inert.

``element`` escapes what is plain text and passes what it made itself, so a model called
``<script>`` is a model with a strange name. Serves HTML and the SVG within it. No template
language: a page is a tree of calls.
"""

from __future__ import annotations

import html
import unicodedata

_VOID = frozenset({"meta", "br", "hr", "img", "wbr"})
_KEPT = frozenset("\n\t")


class Html(str):
    """Markup that may stand in a page as it is. Only this module makes it out of text."""

    __slots__ = ()


Child = str | int | float | None


def element(tag: str, *children: Child, **attributes: Child) -> Html:
    """An element. Children that are plain text are escaped; None is left out.

    Attributes: ``class_`` is ``class``, other underscores are hyphens (``aria_label``); floats are
    rounded to two decimals, which is what a drawing needs; None is left out.

    >>> element("p", "1 < 2", class_="a")
    '<p class="a">1 &lt; 2</p>'
    """
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escaped(_written(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Html(f"<{tag}{told}>")
    return Html(f"<{tag}{told}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Html:
    """Children one after the other, text escaped."""
    return Html(
        "".join(
            child if isinstance(child, Html) else escaped(_written(child))
            for child in children
            if child is not None
        )
    )


def raw(text: str) -> Html:
    """Markup, style or script that is part of this program. Never call it with data."""
    return Html(text)


def escaped(text: str) -> str:
    """Text with markup's characters as entities, and what is invisible or turns the direction of
    writing around replaced by U+FFFD: a name must not rewrite the sentence that it stands in.

    >>> escaped("a\\u202eb & \\ud800")
    'a\\ufffdb &amp; \\ufffd'
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            "\ufffd" if unicodedata.category(c) in {"Cc", "Cf", "Cs"} and c not in _KEPT else c
            for c in text
        )
    return html.escape(text, quote=True)


def _written(value: Child) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)
