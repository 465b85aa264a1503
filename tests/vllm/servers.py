"""vLLM servers as somebody starts them by hand, with the commands of docs/serving.md."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
SERVERS = {
    re.findall(r"--served-model-name (\w+)", text)[0]: text
    for text in SHELL
    if "api_server" in text
}
"""Commands by the name under which they serve."""
_PYTHON = ".venv-vllm/bin/python"


def port_of(command: str) -> str:
    [port] = re.findall(r"--port (\d+)", command)
    return port


def with_our_python(text: str) -> str:
    return text.replace(_PYTHON, os.environ["CONCLAVE_VLLM_PYTHON"])


@contextmanager
def started(command: str) -> Iterator[str]:
    """Its URL, up to and with ``/v1``, once it serves. On a free port; its whole process group ends
    with the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = with_our_python(command.replace(f"--port {port_of(command)}", f"--port {port}"))
    process = subprocess.Popen(
        ["sh", "-c", command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    lines: list[str] = []
    drain = threading.Thread(target=process.stdout.read)  # a full pipe would stop the server
    try:
        for line in process.stdout:  # ends with the process
            lines.append(line)
            if "Application startup complete" in line:
                break
        else:
            pytest.fail("".join(lines[-40:]))
        drain.start()
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        if drain.ident:
            drain.join()
        process.stdout.close()
