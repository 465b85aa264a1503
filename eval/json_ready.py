"""What commands end with: values as strict JSON has them.

Infinite and unknown numbers become null, because JSON knows neither; what they mean is said where
the figure is defined (a cost-of-pass of null: nothing was right).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any

import numpy as np


def json_ready(value: Any) -> Any:
    """Dataclasses become objects, arrays and tuples lists, days ISO dates.

    >>> json_ready({"a": (1.5, float("inf")), "day": date(2025, 2, 1)})
    {'a': [1.5, None], 'day': '2025-02-01'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: json_ready(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): json_ready(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    if isinstance(value, list | tuple):
        return [json_ready(v) for v in value]
    if isinstance(value, date):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value
