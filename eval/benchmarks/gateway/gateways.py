"""Conclave and its peers, each started as its own documentation says, before one upstream.

Peers live in environments of their own, in a folder that ``make peers`` fills; the product needs
none of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eval.benchmarks.gateway.load import Target
from eval.benchmarks.gateway.processes import answers, free_port, started, wait_until
from eval.benchmarks.gateway.upstream import MODEL
from experts.errors import UserError

_KEY = "sk-benchmark"
_PRICES = "{input_usd_per_mtok: 0.1, output_usd_per_mtok: 0.4}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Gateway:
    """One that runs."""

    name: str
    target: Target
    process: subprocess.Popen[bytes] | None
    """None of the upstream, asked directly."""
    home: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """How one is started."""

    command: tuple[str, ...]
    target: Target
    ready: str
    """Path below the server that answers 200 once it is ready."""
    env: Mapping[str, str]


Starter = Callable[[str, Path, Path], Start]
"""Of the upstream's address (up to and with ``/v1``), a folder of its own, and that of peers."""


def conclave(upstream: str, home: Path, peers: Path) -> Start:
    """A named expert, with a key that has limits and a budget, and the ledger."""
    port = free_port()
    home.joinpath("conclave.yaml").write_text(
        "data_dir: .\n"
        "experts:\n"
        f"  - {{kind: openai, name: forwarded, model: {MODEL}, base_url: {upstream}, "
        f"context_tokens: 4096, prices: {_PRICES}, max_concurrent: 256}}\n"
    )
    env = {"CONCLAVE_HOME": str(home)}
    command = str(Path(sys.executable).with_name("conclave"))
    allowed = (
        "--budget-usd",
        "1000",
        "--requests-per-min",
        "100000000",
        "--tokens-per-min",
        str(10**12),
    )
    made = subprocess.run(  # noqa: S603
        [command, "keys", "create", "benchmark", *allowed, "--max-concurrent", "1000", "--json"],
        capture_output=True,
        text=True,
        cwd=home,
        env={**os.environ, **env},
        check=True,
    )
    secret = json.loads(made.stdout)["secret"]
    return Start(
        command=(command, "serve", "--port", str(port)),
        target=Target(
            base_url=f"http://127.0.0.1:{port}/v1",
            model="forwarded",
            headers={"authorization": f"Bearer {secret}"},
        ),
        ready="/readyz",
        env=env,
    )


def litellm(upstream: str, home: Path, peers: Path) -> Start:
    """One worker, no database; a master key."""
    port = free_port()
    home.joinpath("config.yaml").write_text(
        "model_list:\n"
        f"  - model_name: {MODEL}\n"
        f"    litellm_params: {{model: openai/{MODEL}, api_base: {upstream}, api_key: none}}\n"
        f"general_settings: {{master_key: {_KEY}}}\n"
    )
    command = (str(peers / "litellm/bin/litellm"), "--config", "config.yaml", "--port", str(port))
    return Start(
        command=(*command, "--host", "127.0.0.1", "--num_workers", "1"),
        target=Target(
            base_url=f"http://127.0.0.1:{port}/v1",
            model=MODEL,
            headers={"authorization": f"Bearer {_KEY}"},
        ),
        ready="/health/liveliness",
        env={
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        },
    )


def portkey(upstream: str, home: Path, peers: Path) -> Start:
    """Passes keys on: it has none of its own."""
    port = free_port()
    bundle = peers / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    return Start(
        command=(shutil.which("node") or "node", str(bundle), f"--port={port}", "--headless"),
        target=Target(
            base_url=f"http://127.0.0.1:{port}/v1",
            model=MODEL,
            headers={
                "authorization": f"Bearer {_KEY}",
                "x-portkey-provider": "openai",
                "x-portkey-custom-host": upstream,
            },
        ),
        ready="/",
        env={},
    )


def smg(upstream: str, home: Path, peers: Path) -> Start:
    """Rust; one worker behind it."""
    port = free_port()
    worker = upstream.removesuffix("/v1")
    command = (str(peers / "smg/bin/smg"), "launch", "--worker-urls", worker)
    return Start(
        command=(*command, "--host", "127.0.0.1", "--port", str(port)),
        target=Target(base_url=f"http://127.0.0.1:{port}/v1", model=MODEL),
        ready="/readiness",
        env={},
    )


PEERS: Mapping[str, Starter] = {"litellm": litellm, "portkey": portkey, "smg": smg}


def check_peers(names: Sequence[str], peers: Path) -> None:
    """Raises UserError for a peer that is unknown or not installed."""
    places = {
        "litellm": "litellm/bin/litellm",
        "portkey": "portkey/node_modules/@portkey-ai/gateway",
        "smg": "smg/bin/smg",
    }
    for name in names:
        if name not in PEERS:
            raise UserError(f"There is no peer {name!r}; it is one of {', '.join(PEERS)}.")
        if not (peers / places[name]).exists():
            raise UserError(
                f"{name} is not installed in {peers}. Install the peers there: make peers"
            )


@contextmanager
def running(
    name: str, start: Starter, *, upstream: str, folder: Path, peers: Path, core: int
) -> Iterator[Gateway]:
    """Started, and ready."""
    home = folder / name
    home.mkdir()
    how = start(upstream, home, peers.resolve())
    log = home / "log"
    server = how.target.base_url.removesuffix("/v1")
    with started(how.command, core=core, env=how.env, cwd=home, log=log) as process:
        wait_until(lambda: answers(f"{server}{how.ready}", how.target.headers), process, log, name)
        yield Gateway(name=name, target=how.target, process=process, home=home)
