"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Configuration file; conclave.yaml here, if there is one."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, for pipes, and nothing else.")
]
PriceOption = Annotated[
    float | None,
    typer.Option("--fallback-price", "-v", help="Dollars that a wrong answer costs you.", min=1e-9),
]
