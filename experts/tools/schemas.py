"""JSON Schemas from servers that nobody vouches for: are they any good, and does a value obey?

Checking must end, whatever the schema: steps are counted, patterns (regular expressions, which can
take for ever) are left to the server, and references stay inside the schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import cache
from typing import Any

MAX_SCHEMA_BYTES = 64_000
_MAX_STEPS = 20_000
_MAX_DEPTH = 24
"""Of schemas and values."""
_MAX_NESTED = 100
"""Keywords that are being checked inside of each other. Python's own limit comes too late: the
persistent maps that `referencing` is made of abort there, with what is no Exception."""
_LEFT_TO_THE_SERVER = ("pattern", "patternProperties", "format")
_SHOWN_CHARS = 300
_steps: ContextVar[int] = ContextVar("steps")
_nested: ContextVar[int] = ContextVar("nested")


class _TooMuch(Exception):
    pass


def check_schema(schema: Any, what: str) -> None:
    """Raises ValueError, saying what is wrong, unless ``schema`` is a JSON Schema of an object that
    can be checked against. what: how messages call it."""
    if not isinstance(schema, dict):
        raise ValueError(f"{what} is {_kind(schema)}, not a JSON Schema")
    if (n := len(json.dumps(schema).encode())) > MAX_SCHEMA_BYTES:
        raise ValueError(f"{what} has {n:,} bytes; at most {MAX_SCHEMA_BYTES:,} are read")
    if _depth(schema) > _MAX_DEPTH:
        raise ValueError(f"{what} is more than {_MAX_DEPTH} levels deep")
    if schema.get("type") != "object":
        raise ValueError(f"{what} must be of an object: its `type` is {schema.get('type')!r}")
    from jsonschema import Draft202012Validator, SchemaError

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path)) or "its root"
        raise ValueError(f"{what} is no JSON Schema: at {place}, {_short(error.message)}") from None
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ValueError(f"{what} refers to {_short(reference)!r}, outside of itself")
        if not _resolves(schema, reference):
            raise ValueError(f"{what} refers to {_short(reference)!r}, which is not in it")
    known = schema.get("properties", {})
    if missing := [name for name in schema.get("required", []) if name not in known]:
        raise ValueError(f"{what} requires {missing[0]!r}, which it does not describe")
    try:
        problem(schema, {})
    except ValueError as error:
        raise ValueError(f"{what} {error}") from None


def problem(schema: dict[str, Any], value: Any) -> str | None:
    """What is wrong with a value, or None. Raises ValueError when that cannot be told."""
    from jsonschema.exceptions import best_match

    if _depth(value) > _MAX_DEPTH:
        return f"more than {_MAX_DEPTH} levels deep"
    _steps.set(0)
    _nested.set(0)
    try:
        error = best_match(_checker()(schema).iter_errors(value))
    except _TooMuch:
        raise ValueError("takes too long to check against: it unfolds without end") from None
    except Exception as error:  # a reference that leads nowhere, and what else a schema can do
        raise ValueError(f"cannot be checked against: {_short(str(error))}") from None
    if error is None:
        return None
    place = ".".join(map(str, error.absolute_path))
    return f"{place}: {_short(error.message)}" if place else _short(error.message)


@cache
def _checker() -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    counted = {
        keyword: _counted(function)
        for keyword, function in Draft202012Validator.VALIDATORS.items()
        if keyword not in _LEFT_TO_THE_SERVER
    }
    nothing = dict.fromkeys(_LEFT_TO_THE_SERVER, _pass)
    return extend(Draft202012Validator, {**counted, **nothing})


Keyword = Callable[[Any, Any, Any, Any], Any]


def _counted(function: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        n, nested = _steps.get() + 1, _nested.get() + 1
        if n > _MAX_STEPS or nested > _MAX_NESTED:
            raise _TooMuch
        _steps.set(n)
        # These look for the properties that patterns do not speak of.
        if "patternProperties" in schema and function.__name__ in (
            "additionalProperties",
            "unevaluatedProperties",
        ):
            return
        _nested.set(nested)
        try:
            yield from function(validator, value, instance, schema) or ()
        finally:
            _nested.set(nested - 1)

    return check


def _pass(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    return iter(())


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(inner, str):
                yield inner
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _resolves(schema: dict[str, Any], reference: str) -> bool:
    if not reference.startswith("#/"):
        return True  # the root, or an anchor, which checking looks up
    at: Any = schema
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(at, list) and name.isdecimal():
            at = dict(enumerate(at)).get(int(name))
        else:
            at = at.get(name) if isinstance(at, dict) else None
        if at is None:
            return False
    return True


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if deepest > _MAX_DEPTH:
            break
    return deepest


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
