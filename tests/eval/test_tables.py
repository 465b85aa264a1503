"""Commands with wide tables, into a pipe and on narrow terminals: nothing is squeezed or lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.eval.commands import run_eval, told
from tests.eval.recorded import COST_USD, data_set


@pytest.mark.parametrize("columns", [None, 80, 40])
def test_cost_of_pass_shows_every_figure_whole(tmp_path: Path, columns: int | None) -> None:
    run = run_eval("cost-of-pass", "--data", data_set(tmp_path, 40), columns=columns)
    tables = run.stdout[: run.stdout.index("The bare ratio crowns")]
    for arm in told(run)["arms"]:
        low, high = arm["accuracy_ci"]
        assert f" {arm['accuracy']:.1%}" in tables
        assert f" {low * 100:.1f}-{high:.1%}" in tables
        assert f" {arm['cost_usd_per_1k']:.3g}" in tables
    names = re.findall("|".join(COST_USD), tables)
    if columns is None:
        assert len(names) == 3 * len(COST_USD) + 1  # a line a row, and the title of one
    else:
        assert max(map(len, tables.splitlines())) <= columns
        assert len(names) > 3 * len(COST_USD) + 1  # tables go on beneath


def test_the_audit_folds_what_it_tells_at_words(tmp_path: Path) -> None:
    run = run_eval("audit", "--data", data_set(tmp_path, 60), "--quick", columns=60)
    table = [line for line in run.stdout.splitlines() if line.startswith("│")]
    assert max(map(len, table)) <= 60
    texts = [f["what"] for f in told(run)["findings"]]
    cells = " ".join(line.split("│")[-2].strip() for line in table)
    assert any(text in cells for text in texts if len(text) > 60)
