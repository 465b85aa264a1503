"""What a tool is, as its server tells: name, description, what it takes and gives.

Schemas are kept as JSON text, so that a card stays hashable; whether they are any good is checked
in ``schemas`` before a spec is made.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

_NOT_IN_FUNCTION_NAMES = re.compile(r"[^A-Za-z0-9_-]")
MAX_FUNCTION_NAME = 64
"""Of OpenAI's protocol."""


@dataclass(frozen=True, kw_only=True)  # no slots: what is read off the schema is kept
class ToolSpec:
    """One tool of one server."""

    server: str
    name: str
    """As its server calls it."""
    description: str
    input_schema: str
    """JSON Schema of its arguments, as JSON."""
    output_schema: str | None = None
    """JSON Schema of its structured result, as JSON; None where it promises none."""
    is_repeatable: bool = False
    """Its server says that it reads only, or that calling it again changes nothing."""

    @property
    def card_name(self) -> str:
        return f"{self.server}.{self.name}"

    @property
    def function_name(self) -> str:
        """For models that call functions: OpenAI's protocol has no dots in them."""
        return _NOT_IN_FUNCTION_NAMES.sub("_", self.card_name)

    @property
    def names(self) -> frozenset[str]:
        """Under which a tool call may mean it."""
        return frozenset({self.name, self.card_name, self.function_name})

    @cached_property
    def schema(self) -> dict[str, Any]:
        """Not to be changed."""
        schema: dict[str, Any] = json.loads(self.input_schema)
        return schema

    @property
    def text_parameter(self) -> str | None:
        """The parameter that a question's text can be put into: the only required one, if it is a
        string. None for a tool that cannot answer a question by itself."""
        required = self.schema.get("required", [])
        if len(required) != 1:
            return None
        said = self.schema.get("properties", {}).get(required[0])
        is_text = isinstance(said, dict) and said.get("type") == "string" and "enum" not in said
        return required[0] if is_text else None

    def function(self) -> dict[str, Any]:
        """As OpenAI's ``tools`` describe it."""
        return {
            "type": "function",
            "function": {
                "name": self.function_name,
                "description": self.description,
                "parameters": self.schema,
            },
        }
