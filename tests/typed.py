"""The ``conclave`` command, typed: in this process, or in one of its own as a shell would start it.

In this process libraries are imported once for all tests, seconds a command; what only a process
shows (a clean stderr, exit codes, no traceback) a few tests look at in one.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from orchestrator.cli import main

COLUMNS = {"COLUMNS": "120"}


def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command here."""
    out, err, code = StringIO(), StringIO(), 0
    with (
        patch.object(sys, "argv", ["conclave", *arguments]),
        patch.dict(os.environ, COLUMNS),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def conclave(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [Path(sys.executable).with_name("conclave"), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **COLUMNS},
        check=False,
    )
