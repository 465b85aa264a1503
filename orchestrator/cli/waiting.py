"""What a command waits for while experts are loaded, on stderr: answers go to stdout alone.

A spinner with a clock where somebody looks, which is gone in the end; one plain line an expert
where stderr is a file or a pipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from experts.values import Call
from routers.loads import Load

_WORTH_TELLING_S = 1.0


class LoadsShown:
    """Told of calls that are about to be made, it shows which of them wait for a load."""

    def __init__(self, loads: Callable[[], Mapping[str, Load]], console: Console) -> None:
        """loads: of experts that are not there now."""
        self._loads, self._console = loads, console
        self._told: set[str] = set()
        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
            console=console, transient=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._bar.live.is_started:  # where it is not, it would end a line that it never began
            self._bar.stop()

    def asked(self, calls: Sequence[Call]) -> None:
        loads = self._loads()
        names = list(dict.fromkeys(call.arm.expert for call in calls))
        for name in names:
            load = loads.get(name)
            if load is None or load.load_s < _WORTH_TELLING_S or name in self._told:
                continue
            self._told.add(name)
            self._tell(f"Waiting for {name} to be loaded, about {load.load_s:.0f} s")

    def _tell(self, what: str) -> None:
        if not self._console.is_terminal:
            self._console.print(f"{what} ...", markup=False, highlight=False, soft_wrap=True)
            return
        self._bar.add_task(what, total=None)
        self._bar.start()
