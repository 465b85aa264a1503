"""When to fit anew: after so many new outcomes, in a process of its own at low priority.

A thread would hold up the answers that this process gives; a process that is nice to others takes
the time that nobody wants. It puts the new state to use by a rename, which servers notice.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.learning.history import FitHistory
from orchestrator.ledger import Ledger

log = logging.getLogger(__name__)

Start = Callable[[], subprocess.Popen[bytes]]


@dataclass(slots=True)
class Watch:
    """Starts refits that are due; ``look`` is called now and then."""

    ledger: Ledger
    history: FitHistory
    every_n: int
    start: Start
    fitted_at: Callable[[], int]
    """The ledger's position of the state in use."""
    _running: subprocess.Popen[bytes] | None = None
    _asked_at: int = 0

    def look(self) -> bool:
        """Start a refit if one is due and none is running. Whether it did."""
        if self._running is not None:
            if (code := self._running.poll()) is None:
                return False
            if code:
                log.warning("the refit in the background ended with %d: conclave fit list", code)
            self._running = None
        if not self.is_due():
            return False
        self._asked_at = int(self.ledger.position()["last_verdict_id"])
        self._running = self.start()
        return True

    def is_due(self) -> bool:
        """So many verdicts are newer than the state in use and than the last try."""
        tried = max((int(entry.get("position", 0)) for entry in self.history.log()), default=0)
        at = max(self.fitted_at(), tried, self._asked_at)
        return int(self.ledger.position()["last_verdict_id"]) - at >= self.every_n

    def stop(self) -> None:
        """End a refit that is running: nothing is lost but its work."""
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()
            self._running.wait()


def fitted_position(history: FitHistory, ledger: Ledger) -> int:
    """The ledger's position of the state in use; 0 where it was another ledger's."""
    current, position = history.current_id, ledger.position()
    report = next((f.report for f in history.fits() if f.fit_id == current), {})
    return (
        int(report.get("last_verdict_id", 0)) if report.get("ledger") == position["ledger"] else 0
    )


def start_refit(config_file: Path | None) -> subprocess.Popen[bytes]:
    """``conclave fit --unless-worse`` in the background."""
    command = [
        sys.executable, "-c", "from orchestrator.cli import main; main()", "fit", "--unless-worse",
        "--json", *(["--config", str(config_file)] if config_file else []),
    ]  # fmt: skip
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 (ours)
