"""Settings in a grader's name: ``numeric(tolerance=0.01)``.

A grader's keyword-only parameters are its settings, their annotations the bounds, their defaults
what holds when nothing is said. There is no second list of them to forget.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from experts.errors import ConfigError, UnknownName

_NAME = re.compile(r"\s*([\w-]+)\s*(?:\((.*)\))?\s*\Z", re.S)


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """The bare name and its settings as they are written.

    >>> split_name("numeric(tolerance=0.01)")
    ('numeric', {'tolerance': '0.01'})
    """
    match = _NAME.match(name)
    if not match:
        raise ConfigError(f"{name!r} is no grader. Write a name, or a name with settings: {_FORM}.")
    settings: dict[str, str] = {}
    inner = match[2]
    for part in inner.split(",") if inner and inner.strip() else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (equals and key and value):
            raise ConfigError(f"{part.strip()!r} in {name!r} is no setting. Write {_FORM}.")
        if key in settings:
            raise ConfigError(f"{name!r} sets {key} twice. Keep one of them.")
        settings[key] = value
    return match[1], settings


_FORM = "name(setting=value, setting=value), as in numeric(tolerance=0.01)"


def settings_of(grader: Callable[..., Any]) -> Mapping[str, Any]:
    """Names of a grader's settings, and their defaults."""
    parameters = inspect.signature(grader).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def read_settings(
    name: str, grader: Callable[..., Any], written: Mapping[str, str]
) -> dict[str, Any]:
    """Written settings as values of the grader's own types.

    Raises UnknownName with the nearest name for a setting that the grader does not have, and
    ConfigError for a value that it cannot take.
    """
    known = settings_of(grader)
    hints = get_type_hints(grader, include_extras=True)
    values: dict[str, Any] = {}
    for key, text in written.items():
        if key not in known:
            raise UnknownName(key, known, what=f"setting of grader {name!r}:")
        try:
            values[key] = TypeAdapter(hints[key]).validate_strings(text)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise ConfigError(
                f"Grader {name!r}: {key} is {text!r}: {problem}. Its default is {known[key]!r}."
            ) from None
    return values
