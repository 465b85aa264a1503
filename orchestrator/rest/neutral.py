"""Fields that ask for nothing: accepted at that value, refused by name at any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN_CHARS = 80


def without_neutral(
    fields: Mapping[str, Any],
    neutral: Mapping[str, tuple[Any, ...]],
    instead: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Fields without those that ask for nothing. Raises ValueError for one that asks for more.

    neutral: values by field; none at all where any will do. instead: what to do in place of what is
    refused, added to the error.
    """
    kept = {}
    for key, value in fields.items():
        if key not in neutral:
            kept[key] = value
        elif neutral[key] and value not in neutral[key]:
            shown = repr(value)
            shown = shown if len(shown) < _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}..."
            advice = (instead or {}).get(key, "")
            raise ValueError(f"{key}: {shown} is not supported; leave {key!r} out{advice}")
    return kept
