"""``conclave serve``: the OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import ConfigOption

if TYPE_CHECKING:
    from orchestrator.config import Config

_BACKLOG = 2048
_GARBAGE = (20_000, 20, 20)
"""After how many new objects garbage is looked for: of all that a request makes, none is part of a
cycle for long, and Python's own 700 cost a twentieth of what a request takes."""


def register(app: typer.Typer) -> None:
    app.command()(serve)


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 127.0.0.1 by default.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port; 8000 by default, 0 for any free.", min=0, max=65535),
    ] = None,
    config_file: ConfigOption = None,
) -> None:
    """Serve the pool over an OpenAI-compatible REST endpoint.

    [dim]curl localhost:8000/v1/chat/completions -H 'content-type: application/json'
    -d '{"model": "conclave", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}'[/dim]
    """
    import gc
    import ipaddress
    import signal
    import socket
    import sys
    import time

    import uvicorn

    from experts.errors import UserError
    from orchestrator.conclave import Conclave
    from orchestrator.config import load_config
    from orchestrator.learning.history import FitHistory
    from orchestrator.learning.watch import Watch, fitted_position, start_refit
    from orchestrator.ledger.spooled import SpooledLedger
    from orchestrator.rest.app import create_app
    from orchestrator.rest.corked import CorkedProtocol

    # uvicorn stops when it is asked to, and then raises the signal again. By default the process
    # would end at that, with no time to end engines in order.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    config = load_config(config_file)
    host = host or config.server.host
    config = config.model_copy(update={"server": config.server.model_copy(update={"host": host})})
    port = config.server.port if port is None else port
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # From here on clients are queued rather than refused: the address is about to be told.
        listener.listen(_BACKLOG)
    except OSError as error:
        raise UserError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another: --port 0 takes "
            "any free one."
        ) from None
    address, port = listener.getsockname()[:2]
    if not ipaddress.ip_address(address).is_loopback:
        _check_who_may_come(config, address)
    conclave = Conclave.from_config(config, ledger=SpooledLedger(config.ledger_path))
    typer.echo(f"Conclave on http://{host}:{port}/v1 (docs at /docs); loading experts ...")
    started = time.perf_counter()

    def say_ready(problems: Mapping[str, str]) -> None:
        seconds = time.perf_counter() - started
        for name, problem in problems.items():
            typer.secho(f"{name} cannot be loaded: {problem}", err=True, fg=typer.colors.YELLOW)
        n_loaded = len(conclave.experts) - len(problems)
        # What is there now stays: looking it all through for garbage again and again would stop
        # every request for a tenth of a second.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        typer.echo(f"Ready: {n_loaded} experts loaded in {seconds:.1f} s.")

    watch = None
    if config.learning.refit_every_n is not None:
        history = FitHistory(config.data_dir, keep=config.learning.keep_fits)
        watch = Watch(
            ledger=conclave.ledger,
            history=history,
            every_n=config.learning.refit_every_n,
            start=lambda: start_refit(config_file),
            fitted_at=lambda: fitted_position(history, conclave.ledger),
        )
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(conclave, config, on_ready=say_ready, watch=watch),
            http=CorkedProtocol,
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # nobody here asks where a request comes from
            timeout_graceful_shutdown=10,
        )
    )
    server.run(sockets=[listener])


def _check_who_may_come(config: Config, address: str) -> None:
    """Raises UserError where everybody may, and the owner has not said so."""
    from contextlib import closing

    from experts.errors import UserError
    from orchestrator.keys.opening import open_keys

    with closing(open_keys(config)) as store:
        if store.all():
            return
    risk = f"Listening on {address}: anyone who reaches this port can spend on your experts."
    if not config.server.open_to_all:
        raise UserError(
            f"{risk} Make a key first (conclave keys create NAME), or, where something before this "
            "server lets in nobody else, write `server: {open_to_all: true}` into conclave.yaml."
        )
    typer.secho(risk, err=True, fg=typer.colors.YELLOW)
