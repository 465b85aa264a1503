"""What the sections of the configuration have in common: that they are strict, and small fields."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Strict(BaseModel):
    """A section: keys that it does not know are refused, and it stays as it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


ExpertName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
"""Of an environment variable. A key that was pasted here by mistake rarely looks like one, and is
not repeated in the error."""


def _as_written(value: object) -> object:
    """YAML makes a number of what is a word of a command line."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Word = Annotated[str, BeforeValidator(_as_written)]
