"""What commands show of tables, as text: in a pipe, or on a terminal of some width."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING
from unittest.mock import patch

from orchestrator.cli.output import print_parts

if TYPE_CHECKING:
    from rich.console import RenderableType


def shown(*parts: RenderableType, columns: int | None = None) -> str:
    """Of what goes to ``print_parts``; without ``columns`` stdout is a pipe."""
    out = StringIO()
    with patch.dict(os.environ), redirect_stdout(out):
        os.environ.pop("COLUMNS", None)
        if columns is not None:
            os.environ["COLUMNS"] = str(columns)
        print_parts(*parts)
    return out.getvalue()
