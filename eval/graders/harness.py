"""What runs inside the sandbox: the answer's code, then the tests, then one line that says how.

``code`` hands this file's text to ``python -I -S -c``; it imports the standard library only. The
request comes as JSON on standard input and is read before anything of the answer's runs. The
verdict goes to where standard error was, with the request's token; all that the code prints goes to
standard output.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
import types
import unittest
from collections.abc import Callable
from typing import Any

READY = "ready"
"""Written first: without it, the sandbox failed and not the code."""


def main() -> None:
    verdict_fd = os.dup(2)
    os.write(verdict_fd, f"{READY}\n".encode())
    request = json.loads(sys.stdin.buffer.read())
    os.dup2(1, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # input() meets the end of file, not the tests
    why = outcome(request["blocks"], request["tests"])
    try:
        sys.stdout.flush()
    except Exception as error:  # more than it may print, or it has put something else there
        why = why or f"its output: {error}"
    line = json.dumps({"token": request["token"], "why": why})
    os.write(verdict_fd, f"\n{line}\n".encode())
    os._exit(0)  # threads that the answer left behind do not keep us


def outcome(blocks: list[str], tests: str) -> str:
    """Empty when the tests pass, else what went wrong and where."""
    module = types.ModuleType("answer")
    sys.modules["answer"] = module
    stage = "the answer"
    try:
        for block in blocks:
            run(block, module, "answer", len(blocks) > 1)
        stage = "the tests"
        # Tests see the answer's names as their own, and unittest.main() finds them.
        module.__name__ = "__main__"
        sys.modules["__main__"] = module
        before = dict(vars(module))
        run(tests, module, "tests", False)
        run_collected({k: v for k, v in vars(module).items() if before.get(k) is not v})
    except SystemExit as stop:
        done = stage == "the tests" and stop.code in (None, 0, False) and is_the_tests_own(stop)
        return "" if done else f"{stage}: exit"
    except BaseException as error:  # whatever it raises, it did not pass
        return f"{stage}: {type(error).__name__}: {error}"[:500]
    return ""


def is_the_tests_own(stop: SystemExit) -> bool:
    """Whether the tests left by themselves, as ``unittest.main()`` does when all is well. An answer
    that leaves from within a function has kept the rest of the tests from running."""
    frames = list(traceback.walk_tb(stop.__traceback__))
    files = [frame.f_code.co_filename for frame, _ in frames]
    innermost = frames[-1][0].f_globals.get("__name__", "")
    ours = files[-1] == "<tests>" or innermost.partition(".")[0] == "unittest"
    return ours and "<answer>" not in files


def run(source: str, module: types.ModuleType, name: str, may_be_prose: bool) -> None:
    try:
        program = compile(source, f"<{name}>", "exec", dont_inherit=True)
    except SyntaxError:
        if may_be_prose:  # one of several fenced blocks: output, or a sketch
            return
        raise
    try:
        exec(program, module.__dict__)  # noqa: S102 - what the sandbox is for
    except SystemExit:
        if name == "tests":
            raise
        # A script that ends in sys.exit(main()) has defined what is to be tested.


def run_collected(defined: dict[str, Any]) -> None:
    """Tests that were defined, as pytest would run them: uncalled they would pass unrun. Those that
    the answer wrote for itself are its own affair. What needs pytest itself is refused beforehand
    (``code``)."""
    classes = [
        value
        for value in defined.values()
        if isinstance(value, type) and value.__module__ == "__main__"
    ]
    for case in classes:
        if issubclass(case, unittest.TestCase):
            run_case(case)
        elif case.__name__.startswith("Test"):
            run_class(case)
    for name, value in defined.items():
        if name.startswith("test") and inspect.isfunction(value) and not takes_arguments(value):
            run_function(value)


def run_case(case: type[unittest.TestCase]) -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    if not result.wasSuccessful():
        reports = [report for _, report in result.failures + result.errors]
        raise AssertionError(reports[0].strip().splitlines()[-1] if reports else case.__name__)


def run_class(case: type[Any]) -> None:
    """Each test on an instance of its own, after the class's and the method's set-up."""
    set_up(getattr(case, "setup_class", None), case)
    for name in dir(case):
        if name.startswith("test") and callable(getattr(case, name)):
            own = case()
            set_up(getattr(own, "setup_method", None), getattr(own, name))
            run_function(getattr(own, name))
            set_up(getattr(own, "teardown_method", None), getattr(own, name))
    set_up(getattr(case, "teardown_class", None), case)


def set_up(function: Callable[..., Any] | None, about: Any) -> None:
    """pytest hands over what is set up, where the function takes it."""
    if function is not None:
        function(about) if takes_arguments(function) else function()


def run_function(function: Callable[[], Any]) -> None:
    if inspect.isgeneratorfunction(function):  # calling it would run nothing of it
        for _ in function():
            pass
    else:
        function()


def takes_arguments(function: Callable[..., Any]) -> bool:
    return any(
        p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        for p in inspect.signature(function).parameters.values()
    )


if __name__ == "__main__":
    main()
