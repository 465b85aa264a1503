"""Tests that would not run: what a reference defines and only pytest, or a caller, would call.

The source is read, not run. That tests which do run say something of an answer is tried out in
``code``.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def never_run(source: str) -> str:
    """What of these tests nobody would run, as the end of "The reference ..."; empty when all are.

    >>> never_run("def check(candidate):\\n    assert candidate(2) == 4")
    "defines check(...) and does not call it: add a line such as 'check(double)'"
    """
    tests = ast.parse(source)
    called = {
        node.func.id
        for node in ast.walk(tests)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    for node in tests.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and "pytest" in _imported(node):
            return "imports pytest, which the sandbox does not have"
    for function, owner in _functions(tests):
        name, of_unittest = function.name, owner is not None and _has_base(owner, "TestCase")
        if name in called and owner is None:
            continue
        if name == "check" and owner is None and _n_asked(function):
            return f"defines {name}(...) and does not call it: add a line such as 'check(double)'"
        if not name.startswith("test"):
            continue
        if isinstance(function, ast.AsyncFunctionDef):
            if owner is None or not _has_base(owner, "IsolatedAsyncioTestCase"):
                return f"has an async test, {name}, that nobody would await"
        elif name.startswith("test_") and not of_unittest:
            n_own = int(owner is not None)  # self
            if _n_asked(function) > n_own:
                return f"has a test, {name}, with arguments that nobody would fill in"
    return ""


def _functions(tests: ast.Module) -> Iterator[tuple[_Function, ast.ClassDef | None]]:
    """Functions of the module, and of its classes of tests."""
    for node in tests.body:
        if isinstance(node, _Function):
            yield node, None
        elif isinstance(node, ast.ClassDef) and (
            node.name.startswith("Test") or _has_base(node, "TestCase")
        ):
            yield from ((inner, node) for inner in node.body if isinstance(inner, _Function))


def _has_base(owner: ast.ClassDef, name: str) -> bool:
    return any(name in ast.unparse(base) for base in owner.bases)


def _n_asked(function: _Function) -> int:
    """Arguments without a default."""
    given = function.args
    n_keyword_only = sum(default is None for default in given.kw_defaults)
    return len(given.posonlyargs + given.args) - len(given.defaults) + n_keyword_only


def _imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
    return {str(name).partition(".")[0] for name in names}
