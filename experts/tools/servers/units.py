"""Units of measurement, by pint: ``python -m experts.tools.servers.units``.

Factors are exact fractions where the unit is defined so. What stands for a unit is read here
(names, * / and small powers), because pint would compute 9^9^9 metres.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from experts.tools.servers.serving import run, server

MAX_CHARS = 200
MAX_POWER = 12
MAX_EXPONENT = 300
_DIGITS = 12
_NUMBER = re.compile(
    r"\s*([-+]?)\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\s*/\s*\d+|\d+\.?\d*|\.\d+)"
    r"(?:[eE]([-+]?\d+))?\s*"
)
_UNIT = re.compile(
    r"(?P<name>[A-Za-zµμΩ°Å_%][A-Za-zµμΩ°Å_]*)|(?P<power>(?:\^|\*\*)\s*-?\s*\d+)"
    r"|(?P<mark>[*/()·])|\s+"
)
_WRITTEN = {
    "°C": "degC", "°F": "degF", "celsius": "degC", "fahrenheit": "degF", "%": "percent",
    "°": "degree", "C": "degC", "F": "degF", "K": "kelvin",
}  # fmt: skip
_TEMPERATURES = {"degC", "degF", "kelvin", "degR", "rankine", "K"}

Quantity = Annotated[str, Field(description="A number and a unit, e.g. 3.5 km/h or 20 °C")]
Unit = Annotated[str, Field(description="e.g. mile/hour, m^2, kg")]


class BadQuantity(ValueError):
    """What is wrong with a quantity."""


def convert(quantity: Quantity, to: Unit) -> str:
    """Convert a quantity into another unit, exactly where units are defined exactly. Knows metric
    and imperial units, time, data, temperatures (°C, °F, K), and products of them."""
    value, unit = read_quantity(quantity)
    return f"{_shown(_converted(value, unit, read_unit(to)))} {to.strip()}"


def compare(left: Quantity, right: Quantity) -> str:
    """Which of two quantities is larger, and how many times."""
    a, unit_a = read_quantity(left)
    b, unit_b = read_quantity(right)
    in_b = _converted(a, unit_a, unit_b)
    if in_b == b:
        return f"{left.strip()} and {right.strip()} are equal"
    larger, smaller = (left, right) if in_b > b else (right, left)
    said = f"{larger.strip()} is larger than {smaller.strip()}"
    high, low = max(in_b, b), min(in_b, b)
    if low > 0 and unit_b not in _TEMPERATURES:
        said += f", {_shown(high / low)} times"
    return said


def dimension(quantity: Quantity) -> str:
    """What kind of quantity it is, in base dimensions, e.g. [length] * [time]^-1, and its value in
    base units."""
    value, unit = read_quantity(quantity)
    made = _quantity(value, unit)
    base = made.to_base_units()
    kind = _product(dict(made.dimensionality)) or "a number"
    return f"{kind}: {_shown(base.magnitude)} {_product(dict(base.unit_items()))}".rstrip()


def _product(powers: dict[str, Fraction]) -> str:
    """Those in the numerator first. Not pint's own way, which cannot write powers that are
    fractions."""
    ordered = sorted(powers.items(), key=lambda item: (item[1] < 0, item[0]))
    parts = [name if power == 1 else f"{name}^{power}" for name, power in ordered]
    return " * ".join(parts)


def read_quantity(text: str) -> tuple[Fraction, str]:
    """Number and unit, as pint reads it. Raises BadQuantity."""
    if len(text) > MAX_CHARS:
        raise BadQuantity(f"at most {MAX_CHARS} characters are read")
    number = _NUMBER.match(text.replace("−", "-"))
    if number is None:
        raise BadQuantity(f"{text!r} does not begin with a number")
    exponent = int(number[3] or 0)
    if abs(exponent) > MAX_EXPONENT:
        raise BadQuantity(f"the number is too large or too small; exponents go to {MAX_EXPONENT}")
    digits = re.sub(r"[,\s]", "", number[2])
    try:
        value = Fraction(digits) * Fraction(10) ** exponent
    except ZeroDivisionError:
        raise BadQuantity("something is divided by zero") from None
    return -value if number[1] == "-" else value, read_unit(text[number.end() :])


def read_unit(text: str) -> str:
    """As pint reads it. Raises BadQuantity for what is not names, * / brackets and small powers."""
    text = text.strip()
    if not text:
        raise BadQuantity("a unit is missing")
    if len(text) > MAX_CHARS:
        raise BadQuantity(f"at most {MAX_CHARS} characters are read")
    parts, at, powers = [], 0, 0
    while at < len(text):
        token = _UNIT.match(text, at)
        if token is None:
            raise BadQuantity(f"{text[at]!r} cannot be read in the unit {text!r}")
        at = token.end()
        if power := token["power"]:
            exponent = int(re.sub(r"[\s^*]", "", power))
            powers += 1
            if abs(exponent) > MAX_POWER or powers > MAX_POWER:
                raise BadQuantity(f"powers of units go to {MAX_POWER}")
            parts.append(f"**{exponent}")
        elif name := token["name"]:
            parts.append(_WRITTEN.get(name, _WRITTEN.get(name.lower(), name)))
        else:
            parts.append({"·": "*"}.get(token[0].strip(), token[0].strip()) or " ")
    return re.sub(r"\s+", " ", "".join(parts)).strip()


def _converted(value: Fraction, unit: str, to: str) -> Any:
    import pint

    try:
        return _quantity(value, unit).to(to).magnitude
    except pint.UndefinedUnitError as error:
        raise BadQuantity(f"there is no unit {_named(error)}") from None
    except pint.DimensionalityError as error:
        raise BadQuantity(str(error)) from None
    except (pint.PintError, AttributeError, TypeError) as error:
        raise BadQuantity(f"{to!r} cannot be read: {error}") from None


def _quantity(value: Fraction, unit: str) -> Any:
    import pint

    try:
        return _registry().Quantity(value, unit)
    except pint.UndefinedUnitError as error:
        raise BadQuantity(f"there is no unit {_named(error)}") from None
    except Exception as error:  # pint's tokenizer raises what Python's does
        raise BadQuantity(f"{unit!r} cannot be read: {error}") from None


def _named(error: Any) -> str:
    names = error.unit_names
    return repr(names) if isinstance(names, str) else ", ".join(map(repr, names))


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(non_int_type=Fraction, autoconvert_offset_to_baseunit=True)


def _shown(value: Any) -> str:
    """Exact where few digits say it, else rounded, and marked so."""
    exact = Fraction(value)
    denominator = exact.denominator
    for prime in (2, 5):
        while denominator % prime == 0:
            denominator //= prime
    if exact.denominator == 1 and abs(exact) < 10**15:
        return str(exact.numerator)
    if denominator == 1:
        digits = f"{float(exact):.15g}"
        if Fraction(digits) == exact:
            return digits
    return f"about {float(exact):.{_DIGITS}g}"


def make() -> Any:
    return server(
        "units", "Conversion and comparison of quantities.", convert, compare, dimension
    )  # fmt: skip


if __name__ == "__main__":
    _registry()  # seconds, which otherwise the first call would take
    run(make())
