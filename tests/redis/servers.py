"""A Redis of one's own: on a free port, in memory alone, to be killed and started again."""

from __future__ import annotations

import os
import socket
import subprocess
import time

import redis

_START_S = 20.0


class RedisServer:
    """Empty whenever it starts."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [os.environ["CONCLAVE_REDIS_SERVER"], "--port", str(self.port)]
        command += ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + _START_S
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.exceptions.ConnectionError:
                    if time.monotonic() > until or self._process.poll() is not None:
                        raise

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
