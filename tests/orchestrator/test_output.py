"""Tables in pipes and on terminals of any width: all of it is there, and can be read."""

from __future__ import annotations

import pytest
from rich.table import Table

from tests.shown import shown

NAMES = ("sums-expert", "words-expert", "a large model, by all means, and no small one")
FIGURES = ("85.0%", "80.1-89.9%", "0.123", "0.101-0.155", "+3.9 [+2.1, +5.7]")
ID = "550e8400-e29b-41d4-a716-446655440000"


def wide(n: int = 3) -> Table:
    """Five figures, ``n`` times."""
    heads = [f"{head} {i}" for i in range(n) for head in ("right", "95 %", "cost", "95 %", "gain")]
    table = Table("arm", *heads, title="Many figures of some arms", caption="All in dollars.")
    for name in NAMES:
        table.add_row(name, *FIGURES * n)
    return table


def test_a_table_in_a_pipe_has_a_line_a_row() -> None:
    lines = shown(wide()).splitlines()
    for name in NAMES:
        [line] = [line for line in lines if name in line]
        assert all(line.count(figure) == 3 for figure in FIGURES)
    assert lines[0] == "Many figures of some arms"
    assert lines[-1] == "All in dollars."


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_on_a_terminal_no_figure_is_broken_and_none_is_missing(columns: int) -> None:
    text = shown(wide(), columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    for figure in FIGURES:
        assert text.count(figure) == 3 * len(NAMES), figure
    assert "…" not in text
    assert text.count("Many figures") == text.count("All in dollars.") == 1


def test_the_first_column_names_the_rows_of_every_part() -> None:
    text = shown(wide(), columns=60)
    n_parts = text.count("sums-expert")
    assert n_parts > 1
    assert text.count("words-expert") == n_parts
    assert " ".join(NAMES[2].split()[:3]) in text


def test_texts_fold_at_words_and_ids_stay_whole() -> None:
    table = Table("id", "what happened")
    table.add_row(ID, "word " * 60)
    for columns in (None, 70):
        lines = shown(table, columns=columns).splitlines()
        assert any(ID in line for line in lines)
        assert {w for line in lines[3:-1] for w in line.split() if w not in "│┃" + ID} == {"word"}
        assert max(map(len, lines)) <= (columns or 120)


def test_a_terminal_too_narrow_for_anything_still_gets_all() -> None:
    text = shown(wide(1), columns=28)
    assert max(map(len, text.splitlines())) <= 28
    assert all(figure in text for figure in FIGURES[:-1])
    assert shown(wide(1), columns=5)


def test_a_table_without_rows_is_its_heads() -> None:
    assert "arm" in shown(Table("arm", "accuracy"), columns=40)
    assert shown(Table()) == "\n"


def test_styles_of_rows_and_sections_stay() -> None:
    table = Table("a", "b")
    table.add_row("1", "[bold]2[/bold]", end_section=True)
    table.add_row("3")
    lines = shown(table, columns=30).splitlines()
    assert [line.strip("│").split() for line in lines if line.startswith("│")] == [
        ["1", "│", "2"],
        ["3", "│"],
    ]
    assert len(lines) == 7  # a line between the sections
