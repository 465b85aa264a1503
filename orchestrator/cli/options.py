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
MaxCostOption = Annotated[
    float | None,
    typer.Option(help="Dollars at most; a call that might pass that is not made.", min=1e-12),
]
MaxCallsOption = Annotated[
    int | None, typer.Option(help="Calls to experts at most, all told.", min=1)
]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", help="Seconds at most, for each call.", min=1e-3)
]
PriceOption = Annotated[
    float | None,
    typer.Option("--fallback-price", "-v", help="Dollars that a wrong answer costs you.", min=1e-9),
]
