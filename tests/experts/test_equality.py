"""Which answers are the same: however they are dressed, in whatever order they come."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.equality import answer_numbers, canonical

answers = st.none() | st.sampled_from(
    ["", " ", "7", "7.0", "$7", "A", "a", "B", "'B'", "[1, 2]", "[1,2]", "(1, 2)", "True", "x y",
     "x  y", "1/2", "0.5", "50%", "assert f(2) == 7", "It is 7.", "{1: 2}", "None", "-7"]
) | st.text(max_size=12)  # fmt: skip


@given(st.lists(answers, max_size=8))
def test_only_what_says_nothing_is_no_answer(row: list[str | None]) -> None:
    for answer, key in zip(row, canonical(row), strict=True):
        assert (key is None) == (answer is None or not answer.strip())


@given(st.lists(answers, min_size=1, max_size=6), st.randoms())
def test_order_does_not_matter(row: list[str | None], random: object) -> None:
    order = list(range(len(row)))
    random.shuffle(order)  # type: ignore[attr-defined]
    keys = canonical(row)
    assert canonical([row[i] for i in order]) == [keys[i] for i in order]


@given(st.lists(st.lists(answers, min_size=3, max_size=3), min_size=1, max_size=4))
def test_numbers_stand_for_writings(rows: list[list[str | None]]) -> None:
    table = np.empty((len(rows), 3), object)
    table[:] = rows
    for numbers, row in zip(answer_numbers(table).tolist(), rows, strict=True):
        keys = canonical(row)
        for i in range(3):
            assert (numbers[i] == -1) == (keys[i] is None)
            for j in range(3):
                if keys[i] is not None and keys[j] is not None:
                    assert (numbers[i] == numbers[j]) == (keys[i] == keys[j])
        # Counted from 0, in order of appearance: what they number is only equality.
        said = [n for n in numbers if n >= 0]
        assert sorted(set(said)) == list(range(len(set(said))))
        assert list(dict.fromkeys(said)) == sorted(set(said))


@given(st.integers(-(10**9), 10**9))
def test_a_number_is_itself_in_any_dress(n: int) -> None:
    sign = "-" if n < 0 else ""
    dressed = [str(n), f"{n}.0", f"{n:,}", f"{sign}${abs(n):,}.00", f" {n} ", f"`{n}`"]
    assert len(set(canonical(dressed))) == 1


@given(st.fractions(max_denominator=500).filter(lambda f: f.denominator > 1))
def test_a_fraction_is_what_it_divides_to(f: Fraction) -> None:
    sign, top = ("-" if f < 0 else ""), abs(f.numerator)
    same = canonical([f"{sign}{top}/{f.denominator}", rf"{sign}\frac{{{top}}}{{{f.denominator}}}"])
    assert same[0] == same[1] == str(f)


literals = st.recursive(
    st.integers() | st.booleans() | st.text("abc '\"", max_size=4) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=6,
).filter(lambda v: isinstance(v, list | tuple))


@given(literals)
def test_a_literal_is_its_value(value: object) -> None:
    written = repr(value)
    spaced = written.replace(", ", " ,  ") if "'" not in written and '"' not in written else written
    asserted = f"assert f(1) == {written}"
    assert len(set(canonical([written, spaced, asserted]))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "-7"),
        ("A", "a"),  # options and identifiers are case-sensitive
        ("[1, 2]", "[2, 1]"),
        ("[1, 2]", "(1, 2)"),
        ("2\\sqrt{3}", "2"),
        ("12", "1 and 2"),
        ("x + 7", "7"),
    ],
)
def test_what_differs_stays_different(one: str, other: str) -> None:
    keys = canonical([one, other, "some words", "more words"])
    assert keys[0] != keys[1]


def test_a_sentence_is_its_number_only_among_numbers() -> None:
    assert canonical(["7", "7.0", "It costs $7"]) == ["7", "7", "7"]
    assert canonical(["seven", "eight", "It costs $7", "7"])[2] == "It costs $7"


@pytest.mark.parametrize(
    "nasty",
    ["[" * 300, "(" * 300 + ")" * 300, "9" * 5000, "'\\d'", "\ud800", "{**a}", "[" + "1," * 9],
)
def test_whatever_a_model_writes_is_at_least_itself(nasty: str) -> None:
    keys = canonical([nasty, nasty, "other"])
    assert keys[0] is not None
    assert keys[0] == keys[1] != keys[2]
