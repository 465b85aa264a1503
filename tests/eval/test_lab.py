"""The laboratory's promise, on the shipped experts: strong at home, lost elsewhere, a generalist in
between everywhere. A small examination; ``conclave lab evaluate`` holds the full one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from eval.bundled.examination import Cell, run_examination, verdicts
from eval.statistics import wilson_interval
from experts.bundled import bundled_experts, bundled_models

N = 12
FIELDS = {m.name: m.categories for m in bundled_models()}
SPECIALISTS = [name for name, categories in FIELDS.items() if len(categories) == 1]


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    with ThreadPoolExecutor(1) as worker:
        experts = {e.card.name: e for e in bundled_experts(worker, load_usd_per_s=0.0)}
        return run_examination(experts, n=N, seed=11, on_progress=lambda done, total: None)


def test_specialists_are_strong_at_home_and_lost_elsewhere(cells: list[Cell]) -> None:
    """The sample is small: it must not refute the promise, at 95 %, and never be far from it."""
    for verdict in verdicts(cells, FIELDS):
        if verdict.expert not in SPECIALISTS:
            continue
        for held_out, promised in ((False, 0.95), (True, 0.85)):
            own = [
                c
                for c in cells
                if c.expert == verdict.expert
                and c.category in FIELDS[c.expert]
                and c.held_out_wording == held_out
            ]
            n_right, n = sum(c.n_right for c in own), sum(c.n for c in own)
            assert wilson_interval(n_right, n)[1] >= promised, verdict
            assert n_right / n >= promised - 0.05, verdict
        assert verdict.outside <= 0.05, verdict
        assert verdict.outside_best <= 0.4, verdict


def test_the_generalist_is_in_between_everywhere(cells: list[Cell]) -> None:
    by_key = {(c.expert, c.skill, c.held_out_wording): c.accuracy for c in cells}
    means: dict[str, list[float]] = {}
    for cell in cells:
        if cell.expert == "generalist":
            means.setdefault(cell.category, []).append(cell.accuracy)
    for category, accuracies in means.items():
        [home] = [name for name in SPECIALISTS if FIELDS[name] == (category,)]
        own = [
            by_key[home, c.skill, c.held_out_wording]
            for c in cells
            if c.expert == "generalist" and c.category == category
        ]
        assert 0.1 < sum(accuracies) / len(accuracies) < sum(own) / len(own), category
