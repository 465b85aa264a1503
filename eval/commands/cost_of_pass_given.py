"""What ``conclave eval cost-of-pass`` is given: prices of people, families, release days."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

OTHERS = "other"
"""The family of arms that no ``--family`` matches."""


def people_usd(given: Sequence[str], tasks: np.ndarray) -> np.ndarray | None:
    """(n,) dollars that a person costs on each problem; None when nothing is given.

    Raises DataError for what is no price, an unknown task, or a task without a price.
    """
    import numpy as np

    from experts.errors import DataError, did_you_mean

    if not given:
        return None
    known = sorted({str(t) for t in tasks})
    by_task: dict[str, float] = {}
    for text in given:
        task, _, amount = text.rpartition("=")
        try:
            usd = float(amount)
        except ValueError:
            usd = math.nan
        if not (usd > 0 and math.isfinite(usd)):
            raise DataError(f"--human-usd {text!r}: {amount!r} is no price above 0, like 3.50.")
        if task and task not in known:
            raise DataError(
                f"--human-usd {text!r}: no task {task!r}.{did_you_mean(task, known)} "
                f"Tasks: {', '.join(known)}."
            )
        by_task[task] = usd
    missing = [t for t in known if t not in by_task]
    if missing and "" not in by_task:
        raise DataError(
            f"No price of a person for {', '.join(missing)}. Give one for each (--human-usd "
            f"{missing[0]}=X), or one for all others (--human-usd X)."
        )
    return np.array([by_task.get(str(t), by_task.get("", math.nan)) for t in tasks])


def families_of(given: Sequence[str], names: Sequence[str]) -> dict[str, str] | None:
    """Arm to family. Raises DataError for a bad pattern, or one that matches no arm."""
    from experts.errors import DataError

    if not given:
        return None
    families: dict[str, str] = {}
    for text in given:
        pattern, _, name = text.rpartition("=")
        if not (pattern and name):
            raise DataError(f"--family {text!r} is not REGEX=NAME, like '^gpt-4=large'.")
        for arm in arms_matching([pattern], names):
            families.setdefault(arm, name)
    return {name: families.get(name, OTHERS) for name in names}


def arms_matching(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those that one of the patterns is found in. Raises DataError as ``families_of`` does."""
    from experts.errors import DataError

    found: list[str] = []
    for pattern in patterns:
        try:
            matching = [n for n in names if re.search(pattern, n)]
        except re.error as error:
            raise DataError(f"{pattern!r} is no regular expression: {error}.") from None
        if not matching:
            raise DataError(f"No arm matches {pattern!r}. Arms: {', '.join(names)}.")
        found += [n for n in matching if n not in found]
    return found


def release_days(path: Path, names: Sequence[str]) -> dict[str, date]:
    """Arm to day; arms without a day stay out of the tracking. Raises DataError."""
    from experts.errors import DataError

    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        days = {str(name): date.fromisoformat(day) for name, day in read.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(
            f'{path}: {error}. It must be a JSON object of days: {{"model": "2024-05-13"}}.'
        ) from None
    known = {name: day for name, day in days.items() if name in names}
    if not known:
        raise DataError(f"{path} has no day for any of the arms {', '.join(names)}.")
    return known
