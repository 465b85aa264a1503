"""Whether callers got their fair share while slots were contended.

Time is cut into windows. In each, a caller's demand is the work that waits for it at the start
plus what arrives; the work that was started in the window is shared out again by max-min fairness
(nobody gets more than asked for, and what is left is split evenly). A caller's ratio is the work
it got over what it should have got, over all windows. Jain's index over the ratios,
(sum x)^2 / (n sum x^2), is 1 when all got their share alike, and 1/n when one got everything.
Sources: Jain, Chiu and Hawe, DEC-TR-301 (1984); max-min: Bertsekas and Gallager, Data Networks.

Speeds or waits per caller would not do: who floods a server waits long by its own doing, and a
first-come server that makes everybody wait alike would look fair.
"""

from __future__ import annotations

import numpy as np

from experts.residency.clock import Trace


def fairness_between_callers(trace: Trace, window_s: float) -> float:
    """In (0, 1]; 1 for one caller or none."""
    names = sorted({s.request.caller for s in trace.served})
    if len(names) < 2:
        return 1.0
    index = {name: i for i, name in enumerate(names)}
    who = np.array([index[s.request.caller] for s in trace.served])
    work_s = np.array([s.end_s - s.start_s for s in trace.served])
    n_windows = int((trace.end_s - trace.start_s) / window_s) + 1

    def per_window(times_s: list[float]) -> np.ndarray:
        window = ((np.array(times_s) - trace.start_s) / window_s).astype(int)
        table = np.zeros((n_windows, len(names)))
        np.add.at(table, (window, who), work_s)
        return table

    came = per_window([s.request.arrival_s for s in trace.served])
    got = per_window([s.start_s for s in trace.served])
    waited = np.cumsum(came - got, axis=0) - (came - got)
    fair = np.array(
        [max_min(demand, g.sum()) for demand, g in zip(waited + came, got, strict=True)]
    )
    ratio = got.sum(axis=0) / np.maximum(fair.sum(axis=0), 1e-12)
    return float(ratio.sum() ** 2 / (len(names) * (ratio**2).sum()))


def max_min(demand: np.ndarray, capacity: float) -> np.ndarray:
    """Shares of the capacity, none above its demand, the rest split evenly.

    >>> max_min(np.array([1.0, 4.0, 10.0]), 9.0).tolist()
    [1.0, 4.0, 4.0]
    """
    share = np.zeros(len(demand))
    left, order = capacity, np.argsort(demand)
    for rank, i in enumerate(order):
        share[i] = min(demand[i], left / (len(demand) - rank))
        left -= share[i]
    return share
