"""The servers that come with Conclave: what they know, and awkward input."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experts.tools.servers import dates, lists, math, text, units
from experts.tools.servers.grammar import BadFormula, parse
from experts.tools.servers.serving import TooLong, at_most


def raises(reason: str, function: Callable[..., str], *args: object, **more: object) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        function(*args, **more)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("417 + 385", "802"), ("2/3 + 1/6", "5/6"), ("0.1 + 0.2", "3/10"), ("1,234 * 2 =", "2468"),
        ("2^10", "1024"), ("2**3**2", "512"), ("-2^2", "-4"), ("(-2)^2", "4"), ("2^-1", "1/2"),
        ("3(4+5)", "27"), ("2 sqrt(9)", "6"), ("6/2(1+2)", "9"), ("√16 \u00d7 3 ÷ 2", "6"),
        ("15% * 80", "12"), ("5! - 3!!", "-600"), ("sqrt(8)", "2*sqrt(2)"), ("sin(pi/6)", "1/2"),
        ("log(8, 2)", "3"), ("ln(e^3)", "3"), ("log10(1000)", "3"), ("mod(17, 5)", "2"),
        ("gcd(12, 18, 27)", "3"), ("lcm(4, 6)", "12"), ("binomial(5, 2)", "10"),
        ("round(2.5)", "3"), ("round(-2.5)", "-3"), ("round(2/3, 2)", "67/100"),
        ("max(1, 5/2)", "5/2"),
        ("1e-3", "1/1000"), ("--3", "3"), ("i^2", "-1"), ("floor(-3/2)", "-2"), (".5 + 1.", "3/2"),
        ("3²", "9"), ("abs(-7)", "7"), ("8?", "8"), ("٣ + 1", "4"),
    ],
)  # fmt: skip
def test_arithmetic_is_exact(formula: str, expected: str) -> None:
    assert math.evaluate(formula) == expected


def test_a_decimal_is_told_when_it_is_asked_for() -> None:
    assert math.evaluate("1/3", digits=5) == "1/3 = 0.33333"
    assert math.evaluate("pi", digits=30).endswith("3.14159265358979323846264338328")
    assert math.evaluate("4/2", digits=5) == "2"


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("", "empty"), ("1 +", "something is missing at character"), ("(1", "bracket is missing"),
        ("1)", "unexpected ')'"), ("2 3", "an operator is missing before '3'"),
        ("1/0", "divided by zero"), ("0^-1", "divided by zero"), ("mod(1, 0)", "second not 0"),
        ("log(0)", "needs"), ("9^9^9", "too large"), ("2^100000", "too large"),
        ("10^(10^10)", "too large"), ("99999!", "factorials are of whole numbers"),
        ("3000!!", "factorials"), ("(1/2)!", "factorials"), ("1e99999", "exponents go to"),
        ("x + 1", "x has no value here"), ("foo(1)", "no function 'foo'"),
        ("sin(1, 2)", "one value"),
        ("__import__('os')", "cannot be read"), ("a.b", "'.' cannot be read"),
        ("1;2", "cannot be read"),
        ("lambda x: 1", "cannot be read"), ("(" * 100 + "1" + ")" * 100, "levels deep"),
        ("-" * 500 + "1", "signs in a row"), ("1+" * 600 + "1", "characters"),
        ("1, 2", "unexpected ','"),
        ("exp(10^9)", "too large"), ("binomial(100000, 50000)", "smaller numbers"),
        ("2^3000 * 2^3000 * 2^3000", "more than 2000 digits"),
    ],
)  # fmt: skip
def test_awkward_formulas_are_refused_with_the_reason(formula: str, reason: str) -> None:
    raises(reason, math.evaluate, formula)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789.+-*/^()!%,x e√π\n", max_size=40))
def test_any_formula_is_read_or_refused(formula: str) -> None:
    with suppress(BadFormula):
        parse(formula)


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
@settings(max_examples=30, deadline=None)
def test_sums_are_those_of_fractions(a: Fraction, b: Fraction) -> None:
    assert Fraction(math.evaluate(f"({a}) + ({b})")) == a + b


def test_algebra() -> None:
    assert math.solve("x^2 = 5x - 6") == "x = 2; x = 3"
    assert math.solve("2y + 4") == "y = -2"
    assert math.solve("a x = b", "x") == "x = b/a"
    assert math.solve("x = x + 1") == "no solution"
    assert math.solve("2x = x + x") == "every x is a solution"
    assert math.simplify("(x^2 - 1)/(x - 1)") == "x + 1"
    assert math.simplify("(x + 1)^2", "expanded") == "x^2 + 2*x + 1"
    assert math.simplify("x^2 - 1", "factored") == "(x - 1)*(x + 1)"
    assert math.differentiate("x^3") == "3*x^2"
    assert math.differentiate("sin(2t)", "t", 2) == "-4*sin(2*t)"
    assert math.integrate("2x") == "x^2"
    assert math.integrate("exp(-x^2)", "x", "-inf", "inf") == "sqrt(pi)"
    assert math.factor_integer("360") == "2^3 * 3^2 * 5"
    assert math.factor_integer("1,000,003") == "1000003 is prime"
    raises("say which variable", math.solve, "a x = b")
    raises("not in the equation", math.solve, "x = 1", "y")
    raises("one = in it", math.solve, "1 = 2 = 3")
    raises("not multiplied out", math.simplify, "(x + 1)^1000", "expanded")
    raises("not multiplied out", math.solve, "(x + y)^99 = 1", "x")
    raises("both bounds", math.integrate, "x", "x", "0")
    raises("no name", math.differentiate, "x", "x; y")
    raises("not factored here", math.factor_integer, "2^300 + 1")


def test_units() -> None:
    assert units.convert("5 km", "mile") == "about 3.10685596119 mile"
    assert units.convert("1 inch", "cm") == "2.54 cm"
    assert units.convert("100 km/h", "m/s") == "about 27.7777777778 m/s"
    assert units.convert("20 °C", "°F") == "68 °F"
    assert units.convert("-40 F", "C") == "-40 C"
    assert units.convert("0 K", "celsius") == "-273.15 celsius"
    assert units.convert("1,000 m^2", "km**2") == "0.001 km**2"
    assert units.convert("1/3 hour", "minutes") == "20 minutes"
    assert units.convert("1e3 mg", "g") == "1 g"
    assert units.convert("25 %", "dimensionless") == "0.25 dimensionless"
    assert units.compare("1 mile", "1 km").startswith("1 mile is larger than 1 km, 1.609344 times")
    assert units.compare("60 min", "1 h") == "60 min and 1 h are equal"
    assert units.compare("0 °C", "30 °F") == "0 °C is larger than 30 °F"
    assert units.dimension("3 N").startswith("[length] * [mass] * [time]^-2: 3")
    assert units.dimension("90 degree").startswith("a number: about 1.57079632679")


@pytest.mark.parametrize(
    ("quantity", "to", "reason"),
    [
        ("5 km", "kg", "Cannot convert"), ("5 blorp", "m", "no unit 'blorp'"),
        ("5 m", "blorp", "blorp"),
        ("km", "m", "does not begin with a number"), ("5", "m", "a unit is missing"),
        ("5 m", "", "a unit is missing"), ("1 m^999", "m", "powers of units"),
        ("1/0 m", "km", "zero"),
        ("1e999 m", "km", "exponents go to"), ("1 m" + "*m" * 200, "m", "characters are read"),
        ("1 9^9^9 m", "m", "cannot be read"), ("1 __import__('os')", "m", "cannot be read"),
        ("1 m; import os", "m", "cannot be read"), ("1 (m", "m", "cannot be read"),
        ("NaN m", "km", "does not begin"), ("1 m m^-", "m", "cannot be read"),
    ],
)  # fmt: skip
def test_awkward_quantities(quantity: str, to: str, reason: str) -> None:
    raises(reason, units.convert, quantity, to)


def test_dates() -> None:
    assert dates.weekday("2024-02-29") == "Thursday"
    assert dates.weekday("4 March 2025") == dates.weekday("March 4th, 2025") == "Tuesday"
    assert dates.weekday("13/02/2025") == dates.weekday("02/13/2025") == "Thursday"
    assert dates.weekday("03/04/2025", first="day") == "Thursday"
    assert dates.weekday("04/04/2025") == "Friday"
    assert dates.difference("2024-01-31", "2024-03-01") == "30 days (1 month, 1 day)"
    assert dates.difference("2025-03-04", "2024-03-04") == "-365 days (-1 year)"
    assert dates.difference("2025-03-04", "2025-03-05") == "1 day"
    assert dates.difference("2025-03-04 10:00", "2025-03-04 11:30") == "0 days 01:30:00"
    assert dates.add("2024-01-31", months=1) == "2024-02-29"
    assert dates.add("2024-02-29", years=1) == "2025-02-28"
    assert dates.add("2025-03-07", business_days=1) == "2025-03-10"
    assert dates.add("2025-03-08", business_days=1) == "2025-03-10"
    assert dates.add("2025-03-10", business_days=-6) == "2025-02-28"
    assert dates.add("2025-03-04T23:00", hours=2) == "2025-03-05 01:00"
    assert dates.parse("1 Jan 2000") == (
        "2000-01-01, Saturday, day 1 of the year, week 52 of 1999, a leap year"
    )
    assert "no leap year" in dates.parse("1900-03-01")
    zones = "Europe/Berlin", "America/New_York"
    assert dates.change_zone("2025-07-01 12:00", *zones) == "2025-07-01 06:00 America/New_York"
    assert "twice" in dates.change_zone("2025-10-26 02:30", *zones)


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        ("03/04/2025", "could be 2025-04-03 or 2025-03-04"), ("30 February 2024", "is no date"),
        ("today", "no clock"), ("March 2025", "no whole date"), ("2025", "no whole date"),
        ("", "1 to 100"), ("17:30", "no whole date"), ("x" * 200, "1 to 100"),
        ("2025-13-01", "is no date"),
        ("99999-01-01", "is no"), ("2023-02-29", "is no date"), ("13/13/2025", "no such month"),
    ],
)  # fmt: skip
def test_awkward_dates(day: str, reason: str) -> None:
    raises(reason, dates.weekday, day)


def test_more_awkward_dates() -> None:
    raises("outside of the years", dates.add, "2025-01-01", years=9000)
    raises("may be up to", dates.add, "2025-01-01", days=10**12)
    raises("clocks go forward", dates.change_zone, "2025-03-30 02:30", "Europe/Berlin", "UTC")
    raises("no time zone", dates.change_zone, "2025-03-30 02:30", "../etc/passwd", "UTC")
    raises("time zone and the other", dates.difference, "2025-01-01T00:00Z", "2025-01-02")


def test_lists() -> None:
    assert lists.sort(["pear", "Apple", "fig"]) == "Apple, fig, pear"
    assert lists.sort(["10", "9", "1/2", "-3"], by="number") == "-3, 1/2, 9, 10"
    assert lists.sort(["aa", "b"], by="length", descending=True) == "aa, b"
    assert lists.reverse(["1", "2"]) == "2, 1"
    assert (lists.pick(["a", "b"], 2), lists.pick(["a", "b"], -2)) == ("b", "a")
    assert lists.count(["a", "b", "a"]) == "a: 2, b: 1"
    assert lists.count(["a", "b", "a"], "c") == "0"
    assert lists.combine(["a", "b"], ["b", "c"], "both") == "b"
    assert lists.combine(["a", "b"], ["b", "c"], "either") == "a, b, c"
    assert lists.combine(["a"], ["a"], "only_left") == "(nothing)"
    assert lists.statistics(["1", "2", "4"], "mean") == "7/3"
    assert lists.statistics(["0.1"] * 3, "sum") == "0.3"
    assert lists.statistics(["3", "1", "2", "10"], "median") == "2.5"
    assert lists.statistics(["1/3", "3"], "product") == "1"
    assert lists.statistics(["-1.250"], "maximum") == "-1.25"
    raises("list is empty", lists.statistics, [], "mean")
    raises("no position 0", lists.pick, ["a"], 0)
    raises("no position 3", lists.pick, ["a"], 3)
    for bad in ("x", "", "1/0", "1e9", "nan", "9" * 100):
        raises("is no number", lists.statistics, [bad], "sum")
    raises("up to 2000 characters", lists.sort, ["x" * 3000])


def test_text() -> None:
    assert text.count("strawberry", "part", "r") == "3"
    assert text.count("Banana", "part", "AN") == "2"
    assert text.count("Banana", "part", "AN", ignore_case=False) == "0"
    assert text.count("aaaa", "part", "aa") == "2"
    assert text.count("e\u0301t\u00e9", "letters") == "3"
    assert text.count("e\u0301t\u00e9", "vowels") == "2"
    assert text.count("It's a well-known fact.", "words") == "4"
    assert (text.count("", "words"), text.count("a\nb", "lines")) == ("0", "2")
    assert text.change("ne\u0301e", "backwards") == "e\u00e9n"
    assert text.change("Hello World", "without_vowels") == "Hll Wrld"
    assert text.change("one two", "words_backwards") == "two one"
    assert text.change("o'neil sAYS", "title") == "O'neil Says"
    assert text.change("banana", "sorted_letters") == "aaabnn"
    assert text.replace("a-b-c", "-", "") == "abc"
    assert text.find("one two three", -1, "word") == "three"
    assert text.find("a1b", 2, "letter") == "b"
    raises("say which part", text.count, "x", "part")
    raises("no word 5", text.find, "one", 5, "word")


def test_what_takes_too_long_is_interrupted() -> None:
    started = time.monotonic()

    def stubborn() -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:
                continue

    with pytest.raises(TooLong), at_most(0.1):
        stubborn()
    with at_most(60):
        pass
    assert time.monotonic() - started < 30
