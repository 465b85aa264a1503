"""The functions that a request brings for models to call, checked: OpenAI's ``tools`` and
``tool_choice``.

Nothing is called here. A model says what it wants called, and the caller calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from orchestrator.rest.messages import Body, Text

MAX_TOOLS = 128
"""As at OpenAI."""


def _object_schema(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    if schema is not None and schema.get("type", "object") != "object":
        raise ValueError("must be a JSON Schema of an object: {'type': 'object', ...}")
    return schema


class Function(Body):
    """What it is called, and with what."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    description: Text | None = None
    parameters: Annotated[dict[str, Any] | None, AfterValidator(_object_schema)] = None
    """None for one that takes nothing."""
    strict: bool | None = None


class Tool(Body):
    """One function."""

    type: Literal["function"] = "function"
    function: Function


class FunctionName(Body):
    name: str


class NamedChoice(Body):
    """This function must be called."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    function: FunctionName


Choice = Literal["none", "auto", "required"] | NamedChoice


def tool_fields(
    tools: Sequence[Tool], choice: Choice | None, parallel: bool | None
) -> dict[str, Any]:
    """What is handed on to an expert, without what asks for nothing. Raises ValueError for a choice
    that no tool meets, and for two tools of one name."""
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise ValueError("tools: two functions have one name")
    if isinstance(choice, NamedChoice) and choice.function.name not in names:
        known = ", ".join(names) or "none"
        raise ValueError(f"tool_choice: there is no tool {choice.function.name!r}; known: {known}")
    if choice == "required" and not tools:
        raise ValueError("tool_choice: required needs tools")
    if not tools or choice == "none":
        return {}
    fields: dict[str, Any] = {
        "tools": [tool.model_dump(exclude_none=True) for tool in tools],
    }
    if choice not in (None, "auto"):
        fields["tool_choice"] = choice.model_dump() if isinstance(choice, NamedChoice) else choice
    if parallel is False:
        fields["parallel_tool_calls"] = False
    return fields
