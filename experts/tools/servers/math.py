"""Exact arithmetic and algebra, by SymPy: ``python -m experts.tools.servers.math``.

Formulas are read by a grammar of our own (``grammar``) and built up node by node, each checked for
its size before it is computed: nothing is evaluated as Python, and 9^9^9 is refused, not tried.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from experts.tools.servers.grammar import BadFormula, Tree, parse, without_thousands
from experts.tools.servers.serving import run, server

MAX_BITS = 40_000
"""Of a whole number, about 12,000 digits."""
MAX_FACTORIAL = 3000
MAX_DEGREE = 60
"""Of what is multiplied out."""
MAX_FACTORED_BITS = 200
MAX_SHOWN_DIGITS = 2000

Formula = Annotated[str, Field(description="e.g. 3/4 + sqrt(2)*x^2, or 15% * 80")]
Variable = Annotated[str, Field(description="A name, e.g. x")]

_CONSTANTS = {"pi": "pi", "e": "E", "i": "I", "inf": "oo", "infinity": "oo"}
_FUNCTIONS = {
    "abs": "Abs", "acos": "acos", "arccos": "acos", "arcsin": "asin", "arctan": "atan",
    "asin": "asin", "atan": "atan", "ceil": "ceiling", "ceiling": "ceiling", "cos": "cos",
    "cosh": "cosh", "cot": "cot", "exp": "exp", "floor": "floor", "gcd": "gcd", "lcm": "lcm",
    "max": "Max", "min": "Min", "sign": "sign", "sin": "sin", "sinh": "sinh", "sqrt": "sqrt",
    "cbrt": "cbrt", "tan": "tan", "tanh": "tanh",
}  # fmt: skip
_ALIKE = {"gcd", "lcm", "max", "min"}
"""These take any number of values."""


def evaluate(
    expression: Formula,
    digits: Annotated[
        int | None, Field(description="Also as a decimal of so many digits", ge=1, le=200)
    ] = None,
) -> str:
    """Compute a formula exactly: fractions stay fractions, roots stay roots. Knows + - * / ^ ! %,
    sqrt, exp, ln, log(value, base), sin, cos, tan (radians), abs, floor, ceil, round(value,
    places), mod(a, b), gcd, lcm, min, max, binomial(n, k), factorial(n), pi, e. Ask for digits to
    get a decimal, too."""
    text = expression.strip().rstrip("=?").strip()
    made = built(parse(without_thousands(text) if "(" not in text else text))
    if made.free_symbols:
        names = ", ".join(sorted(map(str, made.free_symbols)))
        raise BadFormula(
            f"{names} has no value here. Use simplify or solve for formulas with names."
        )
    import sympy

    exact = sympy.nsimplify(made) if made.is_Float else made
    if not exact.is_Rational:
        exact = sympy.simplify(exact)
    if exact in (sympy.zoo, sympy.nan):
        raise BadFormula("the result is not a number: something is divided by zero")
    said = shown(exact)
    if digits and not exact.is_Integer:
        return f"{said} = {sympy.N(exact, digits)}"
    return said


def simplify(
    expression: Formula,
    form: Annotated[
        Literal["simplest", "expanded", "factored"], Field(description="What it should become")
    ] = "simplest",
) -> str:
    """Rewrite a formula with names: in its simplest form, multiplied out, or factored."""
    import sympy

    made = built(parse(expression))
    if form == "expanded":
        _check_degree(made)
        return shown(sympy.expand(made))
    if form == "factored":
        _check_degree(made)
        return shown(sympy.factor(made))
    return shown(sympy.simplify(made))


def solve(
    equation: Annotated[str, Field(description="e.g. x^2 = 5x - 6; without =, equal to 0")],
    variable: Annotated[str | None, Field(description="To be solved for; may be left out")] = None,
) -> str:
    """Solve an equation exactly for one name. Lists all solutions found, complex ones too."""
    import sympy

    sides = equation.split("=")
    if len(sides) > 2:
        raise BadFormula("an equation has one = in it")
    trees = [built(parse(side)) for side in sides]
    difference = trees[0] - (trees[1] if len(trees) == 2 else 0)
    names = sorted({str(symbol) for tree in trees for symbol in tree.free_symbols})
    if variable is None:
        if len(names) != 1:
            raise BadFormula(
                f"say which variable to solve for; it has {', '.join(names) or 'none'}"
            )
        variable = names[0]
    elif variable not in names:
        raise BadFormula(
            f"{variable!r} is not in the equation; it has {', '.join(names) or 'none'}"
        )
    _check_degree(difference)
    if sympy.simplify(difference) == 0:
        return f"every {variable} is a solution"
    try:
        found = sympy.solve(difference, sympy.Symbol(variable))
    except NotImplementedError:
        raise BadFormula("no way to solve this exactly is known here") from None
    if not found:
        return "no solution"
    return "; ".join(f"{variable} = {shown(s)}" for s in found)


def differentiate(
    expression: Formula,
    variable: Variable = "x",
    order: Annotated[int, Field(description="How many times", ge=1, le=10)] = 1,
) -> str:
    """The derivative of a formula by a name."""
    import sympy

    symbol = sympy.Symbol(_name(variable))
    return shown(sympy.simplify(sympy.diff(built(parse(expression)), symbol, order)))


def integrate(
    expression: Formula,
    variable: Variable = "x",
    lower: Annotated[str | None, Field(description="Lower bound, e.g. 0 or -inf")] = None,
    upper: Annotated[str | None, Field(description="Upper bound")] = None,
) -> str:
    """The integral of a formula by a name: definite with both bounds, else an antiderivative."""
    import sympy

    if (lower is None) != (upper is None):
        raise BadFormula("give both bounds, or none")
    symbol: Any = sympy.Symbol(_name(variable))
    over = symbol
    if lower is not None and upper is not None:
        over = (symbol, built(parse(lower)), built(parse(upper)))
    found = sympy.integrate(built(parse(expression)), over)
    if found.has(sympy.Integral):
        raise BadFormula("no closed form of this integral is found")
    return shown(sympy.simplify(found))


def factor_integer(
    n: Annotated[str, Field(description="A whole number above 1, e.g. 360")],
) -> str:
    """Prime factors of a whole number, e.g. 2^3 * 3^2 * 5; says when it is prime."""
    import sympy

    number = built(parse(without_thousands(n)))
    if not number.is_Integer or number < 2:
        raise BadFormula("a whole number above 1 is needed")
    if int(number).bit_length() > MAX_FACTORED_BITS:
        raise BadFormula(f"numbers of more than {MAX_FACTORED_BITS} bits are not factored here")
    factors = sympy.factorint(number)
    if factors == {number: 1}:
        return f"{number} is prime"
    return " * ".join(f"{p}^{k}" if k > 1 else str(p) for p, k in sorted(factors.items()))


def built(tree: Tree) -> Any:  # noqa: PLR0911 - a kind of node each
    """SymPy's expression of a tree. Raises BadFormula for what is too large or not known."""
    import sympy

    kind = tree[0]
    if kind == "number":
        number: Fraction = tree[1]
        return _sized(sympy.Rational(number.numerator, number.denominator))
    if kind == "name":
        name = tree[1]
        constant = _CONSTANTS.get(name.lower() if len(name) > 1 else name)
        return getattr(sympy, constant) if constant else sympy.Symbol(_name(name))
    if kind == "call":
        return _sized(_called(tree[1], [built(t) for t in tree[2]]))
    values = [built(t) for t in tree[1:]]
    if kind == "-" and len(values) == 1:
        return -values[0]
    if kind == "%":
        return values[0] / 100
    if kind == "!":
        return _factorial(values[0])
    return _sized(_OPERATIONS[kind](*values))


def shown(value: Any) -> str:
    """As the grammar reads it."""
    if value.is_Integer and abs(int(value)).bit_length() > MAX_SHOWN_DIGITS * 3.33:
        raise BadFormula(f"the result has more than {MAX_SHOWN_DIGITS} digits")
    return str(value).replace("**", "^").replace("zoo", "complex infinity")


def _divided(a: Any, b: Any) -> Any:
    if b.is_zero:
        raise BadFormula("something is divided by zero")
    return a / b


def _power(base: Any, exponent: Any) -> Any:
    if exponent.is_number and base.is_number:
        if base.is_Rational and exponent.is_Rational:
            bits = max(int(base.p).bit_length(), int(base.q).bit_length())
            if base not in (0, 1, -1) and bits * abs(exponent) > MAX_BITS:
                raise BadFormula("a power in it is too large to compute")
            if base == 0 and exponent < 0:
                raise BadFormula("something is divided by zero")
        elif abs(exponent).is_extended_nonnegative and bool(abs(exponent.evalf(5)) > MAX_BITS):
            raise BadFormula("a power in it is too large to compute")
    return base**exponent


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
    "^": _power,
}


def _called(name: str, values: list[Any]) -> Any:  # noqa: PLR0911, PLR0912 - a function each
    import sympy

    name = name.lower()
    n = len(values)
    if name in ("ln", "log") and n in (1, 2):
        if name == "ln" or n == 1:
            _need(n == 1, name, "one value")
            _need(not values[0].is_zero, name, "a value that is not 0")
            return sympy.log(values[0])
        _need(not values[0].is_zero and values[1] not in (0, 1), name, "a base but 0 and 1")
        return sympy.log(values[0], values[1])
    if name in ("log2", "log10"):
        _need(n == 1 and not values[0].is_zero, name, "one value that is not 0")
        return sympy.log(values[0], int(name[3:]))
    if name == "mod":
        _need(n == 2 and not values[1].is_zero, name, "two values, the second not 0")
        return sympy.Mod(*values)
    if name == "round":
        places = values[1] if n == 2 else sympy.Integer(0)
        _need(n in (1, 2) and places.is_Integer and abs(places) <= 100, name, "a value and places")
        ten = sympy.Integer(10) ** places
        _need(values[0].is_real is True, name, "a real value")
        # Half away from zero, as people do it.
        half = sympy.floor(abs(values[0]) * ten + sympy.Rational(1, 2)) / ten
        return half if values[0] >= 0 else -half
    if name == "factorial":
        _need(n == 1, name, "one value")
        return _factorial(values[0])
    if name in ("binomial", "choose"):
        whole = n == 2 and all(v.is_Integer and 0 <= v <= 100_000 for v in values)
        _need(whole, name, "two whole numbers up to 100000")
        _need(min(values[1], values[0] - values[1]) <= MAX_FACTORIAL, name, "smaller numbers")
        return sympy.binomial(*values)
    if name in _FUNCTIONS:
        if name in _ALIKE:
            _need(n >= 1, name, "values")
            if name in ("gcd", "lcm"):
                _need(all(v.is_Integer for v in values), name, "whole numbers")
                found = values[0]
                for value in values[1:]:
                    found = getattr(sympy, name)(found, value)
                return abs(found)
        else:
            _need(n == 1, name, "one value")
        if name == "exp":
            return _power(sympy.E, values[0])
        return getattr(sympy, _FUNCTIONS[name])(*values)
    known = sorted({*_FUNCTIONS, "binomial", "factorial", "ln", "log", "mod", "round"})
    raise BadFormula(f"there is no function {name!r} here. Known: {', '.join(known)}")


def _factorial(value: Any) -> Any:
    import sympy

    if not value.is_Integer or not 0 <= value <= MAX_FACTORIAL:
        raise BadFormula(f"factorials are of whole numbers from 0 to {MAX_FACTORIAL}")
    return sympy.factorial(value)


def _need(is_so: object, name: str, what: str) -> None:
    # SymPy has a true of its own, and comparisons that are neither.
    if is_so is not True and is_so != True:  # noqa: E712
        raise BadFormula(f"{name} needs {what}")


def _sized(value: Any) -> Any:
    if value.is_Rational:
        bits = max(int(value.p).bit_length(), int(value.q).bit_length())
        if bits > MAX_BITS:
            raise BadFormula("a number in it is too large to compute")
    return value


def _check_degree(expression: Any) -> None:
    import sympy

    total = 1
    for power in expression.atoms(sympy.Pow):
        if power.exp.is_Integer and len(power.base.args) > 1:
            total *= max(1, abs(int(power.exp)))
    largest = max([abs(int(p.exp)) for p in expression.atoms(sympy.Pow) if p.exp.is_Integer] or [0])
    if max(total, largest) > MAX_DEGREE:
        raise BadFormula(f"powers above {MAX_DEGREE} are not multiplied out")


def _name(text: str) -> str:
    if not text.isidentifier() or len(text) > 30:
        raise BadFormula(f"{text!r} is no name; take a letter, or a short word")
    return text


SERVER_NAME = "math"


def make() -> Any:
    return server(
        SERVER_NAME,
        "Exact arithmetic and algebra. Write formulas with * / ^ and brackets.",
        evaluate, simplify, solve, differentiate, integrate, factor_integer,
    )  # fmt: skip


if __name__ == "__main__":
    import sympy  # noqa: F401 - seconds, which otherwise the first call would take

    run(make())
