"""``conclave init``: a commented conclave.yaml to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

TEMPLATE = """\
# Conclave's configuration. Every line shows its default; delete what you do not change.
# Unknown keys are errors. Paths are relative to this file.

# Where the ledger and what is fitted from it are kept. The environment variable CONCLAVE_HOME
# changes the default.
# data_dir: ~/.conclave

# What questions are compared by: minilm (installed with Conclave), minilm-torch (the same in single
# precision, slower), hashing (no model, faster), or a sentence-transformers model by id or folder
# (./folder), with the extra of that name installed.
embedder: minilm

# Questions whose words alone settle the skill are not embedded: a decision in a tenth of the time.
shortcut: true

# Skills under categories, as JSON; the shipped taxonomy when nothing is said.
# taxonomy: taxonomy.json

# Who can be asked.
experts:
  - kind: bundled            # the eight small laboratory experts; `names: [words, units]` for some
  # - kind: local            # a Hugging Face causal LM in a folder, run in this process
  #   name: my-model
  #   folder: models/my-model
  #   description: Good at short summaries.
  #   prices: {input_usd_per_mtok: 0.10, output_usd_per_mtok: 0.40}   # required, never guessed
  #   context_tokens: 4096   # the model's own when nothing is said
  #   device: cpu            # or cuda

# Policies by name: what an unsolved question costs you decides how much is spent on it.
# A request names one as model "conclave/NAME". `conclave`, `best` and `cheap` are built in.
policies:
  conclave: {fallback_price_usd: 1.0e-3}
  best: {fallback_price_usd: 1.0e-1}
  cheap: {fallback_price_usd: 1.0e-5}

# What a second of this machine costs: the router's own work and loading models are charged with it.
host_usd_per_s: 2.5e-5

# Upper bounds for every question; a request may ask for less, never for more.
limits:
  max_cost_usd: null
  max_calls: 16
  timeout_s: 60              # for each call
  max_tokens: 96             # of each answer; also the default

server:
  host: 127.0.0.1            # anything else can be reached by others
  port: 8000
  max_body_bytes: 1000000
"""


def register(app: typer.Typer) -> None:
    app.command()(init)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("conclave.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented conclave.yaml."""
    from experts.errors import UserError

    if path.exists() and not force:
        raise UserError(f"{path} exists already. Replace it with --force, or name another file.")
    path.write_text(TEMPLATE, encoding="utf-8")
    typer.echo(f"Wrote {path}. See your pool with: conclave experts")
