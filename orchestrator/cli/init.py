"""``conclave init``: a commented conclave.yaml to start from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, get_args

import typer

_TEMPLATE = """\
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
# Who says which skills a question needs: neighbours, descriptors, classifier, or keywords, which an
# expert is asked for (docs/skills.md).
# annotator: neighbours
# keywords:
#   expert: NAME
#   passes: 5
#   temperature: 0.7
#   max_tokens: 48
#   max_fit_usd: 1.00      # of one conclave fit
#   first_step: false      # true asks about every question, too

# Who can be asked.
experts:
{experts}  # - kind: local            # a Hugging Face causal LM in a folder, run in this process
  #   name: my-model
  #   folder: models/my-model
  #   description: Good at short summaries.
  #   prices: {input_usd_per_mtok: 0.10, output_usd_per_mtok: 0.40}   # required, never guessed
  #   context_tokens: 4096   # the model's own when nothing is said
  #   modes: [direct]        # ways of asking it, each an arm: direct, instant, reason, program,
  #                          # ranked, and those that you write under `modes:`
  #   device: cpu            # or cuda
  #   tool_format: null      # of tool calls: hermes, json, none; null: as its template tells
  #   scorer: null           # folder of one that reads its states (conclave latent scorer)
  # - kind: vllm             # the same, served by a vLLM that is started when it is needed (below)
  #   name: my-model-on-vllm
  #   folder: models/my-model
  #   description: Good at code.
  #   base: null             # for a LoRA adapter: the expert of kind vllm that it was made for
  #   prices: {input_usd_per_mtok: 0.10, output_usd_per_mtok: 0.40}   # required
  #   context_tokens: 4096   # the model's own when nothing is said: often too many to start
  #   args: []               # of its engine, e.g. [--quantization, awq]
  #   guided: true           # response_format, ...; false: its engine can be models that tokenize
  #                          # otherwise, too, without a restart
  #   modes: [direct]        # as above
  #   tool_format: null      # as above
  # - kind: openai           # any server that speaks OpenAI's protocol: vLLM, another Conclave, ...
  #   name: my-server
  #   base_url: http://localhost:8001/v1
  #   model: name-of-the-model-there
  #   api_key_env: MY_SERVER_KEY   # the variable's name; keys are never written here
  #   prices: {input_usd_per_mtok: 0.10, output_usd_per_mtok: 0.40}   # required
  #                          # and, if so, cached_input_usd_per_mtok: 0.01 (input it still has)
  #   max_concurrent: 16     # requests at a time
  #   timeout_s: 600         # of one attempt, where a call has no limit of its own
  #   extra_body: {}         # fields for every request; null leaves one out
  #   version: ""            # change it when the weights behind the name change: record anew
  # - kind: litellm          # a LiteLLM id; pip install 'conclave-coe[litellm]'; as above, but
  #   name: haiku
  #   model: anthropic/claude-haiku-4-5
  #   api_base: null         # the provider's own when nothing is said
  #   # prices: of LiteLLM's table when nothing is said; a model that it does not know needs them
  # - kind: tools            # tools that come with Conclave; pip install 'conclave-coe[tools]'
  #   bundled: math          # or units, dates, lists, text, iox
  #   name: math             # its tools are the experts math.evaluate, math.solve, ...
  #   prices: {call_usd: 1.25e-7}   # a call; what its seconds cost (below) when nothing is said
  # - kind: mcp              # any MCP server: docs/tools.md
  #   name: files
  #   command: npx           # or `url: https://...`, with `api_key_env` or `headers`
  #   args: [-y, "@modelcontextprotocol/server-filesystem", /data]
  #   env: [HOME, LANG, PATH]   # names of variables that it gets, and no others
  #   cwd: .                 # its working folder
  #   api_key_env: MY_TOOLS_KEY   # of a URL: sent as bearer
  #   headers: {X-Team: MY_TEAM}  # of a URL: further headers, from variables
  #   prices: {call_usd: 0.001}   # dollars a call; required, 0 only for what is really free
  #   tools: [read_file]     # only these; all when nothing is said
  #   alone: false           # true, or a list: tools that may answer questions by themselves
  #   timeout_s: 30          # of a call
  #   max_result_bytes: 100000
  #   max_concurrent: 8      # calls of one tool at a time
  #   max_calls_per_query: 16
  #   hosts: []              # that arguments may name; any when nothing is said
  #   paths: [/data]         # that arguments may name; any when nothing is said
  #   start_s: 60            # to answer after a start
  #   per_tool: {read_file: {timeout_s: 5}}   # what is otherwise for one tool
  #   version: ""            # change it when the tools change behind the same description
  # - kind: human            # a person: questions wait until somebody answers (conclave human)
  #   name: boss
  #   call_usd: 2.50         # dollars that an answer costs; required, 0 only if it is free
  #   deadline_s: 86400      # for an answer, from asking on
  #   instructions: ""       # shown to whoever answers

# Engines (vLLM) that Conclave starts, watches and stops, for experts of kind vllm and bundled ones
# with `runs_on: vllm`. A server that you start yourself is an expert of kind openai.
vllm:
  # python: .venv-vllm/bin/python   # that has vLLM; this one where it exists (make vllm)
  slots:                     # places for one engine each: GPUs, or shares of one
  - memory_gb: 1.0           # for weights, in 10^9 bytes
    concurrency: 64          # calls that an engine is given at once
    env: {}                  # e.g. {CUDA_VISIBLE_DEVICES: "0"}
    args: []                 # of this slot's engines, e.g. [--gpu-memory-utilization, "0.45"]
  host_memory_gb: 0.0        # that keeps files which were read: what comes next is read ahead
  policy: bounded            # what is loaded next: bounded (ours), coserve, collation, first_come
  stand_ins: false           # who is loaded may answer for who is not, if that loses less (bounded)
  max_wait_s: null           # the longest that a call may wait, while capacity allows (bounded)
  args: []                   # of every engine
  env: {}
  sleep_level: null          # 1 or 2: engines sleep instead of being stopped; on GPUs only
  max_asleep: 1              # in each slot
  max_lora_rank: 16
  start_s: 600               # to be healthy after a start; then an engine counts as hung
  stop_s: 15                 # to end when asked to; then it is killed
  hang_s: 120                # without a new token while calls run; then it is killed

# Experts that only grade recorded answers (conclave record --judge NAME); kinds as above.
# judges: []

# Policies by name: what an unsolved question costs you decides how much is spent on it.
# A request names one as model "conclave/NAME". `conclave`, `best` and `cheap` are built in.
policies:
  conclave: {fallback_price_usd: 1.0e-3}
  best: {fallback_price_usd: 1.0e-1}
  cheap: {fallback_price_usd: 1.0e-5}
  # panel: {fallback_price_usd: 1.0e-2, plan: "recruit(k=3)"}   # always this strategy

# Further modes of experts, and what each adds to the prompt.
# modes: {terse: "Answer in five words at most."}

# What a second of this machine costs: the router's own work and loading models are charged with it.
host_usd_per_s: 2.5e-5

# Upper bounds for every question; a request may ask for less, never for more.
limits:
  max_cost_usd: null
  max_calls: 16
  timeout_s: 60              # for each call
  max_s: null                # for all calls of a question together
  max_tokens: 96             # of each answer; also the default; tool calls need more, say 1024

# Durable runs (conclave runs) wait for a person's yes before they spend much.
runs:
  approval_usd: null         # a plan expected to cost more, or a call that may, waits for a yes
  approval_deadline_s: 604800  # without a yes by then it is a no
  resume_at_start: true      # a server goes on with the runs that were left

# What feedback and graders say changes what is believed, at once (docs/learning.md).
learning:
  enabled: true
  half_life_n: 100           # outcomes of an expert after which one counts half
  prior_n: 20                # outcomes that a fitted rate counts for, at most
  max_shift: 5               # bound on every change, in log-odds
  max_feedback_per_caller_day: 5 # of one key, on one expert
  max_feedback_per_day: 10   # of all keys together, on one expert: anybody can make keys up
  refit_every_n: null        # fit anew in the background after so many outcomes, e.g. 500
  keep_fits: 10              # for conclave fit restore

# Ask experts of whom too little is known: off unless usd_per_day and share are above 0.
exploration:
  usd_per_day: 0.0
  share: 0.0                 # of the questions
  min_sd: 0.04

server:
  host: 127.0.0.1            # anything else can be reached by others
  port: 8000
  max_body_bytes: 1000000
  idempotency_kept_s: 86400  # so long an answer is given again to its Idempotency-Key
  open_to_all: false         # without keys, too, listen beyond this machine (docs/keys.md)
  # redis_url: redis://127.0.0.1:6379/0  # keys and budgets of several servers together
  allowed_hosts: []          # further names under which agents reach /mcp
"""


BUNDLED = """\
  - kind: bundled            # the eight small laboratory experts; `names: [words, units]` for some
                             # and `runs_on: vllm` for engines instead of this process
"""
_LORA_RANK = 16
"""The template's."""
TEMPLATE = _TEMPLATE.replace("{experts}", BUNDLED)
"""What is written when no expert is named."""


def register(app: typer.Typer) -> None:
    app.command()(init)


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("conclave.yaml"),
    openai: Annotated[
        list[str] | None,
        typer.Option(help="URL of a server with OpenAI's protocol, with /v1: an expert a model."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only these of the servers' models; all else.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the servers' key.")
    ] = None,
    litellm: Annotated[
        list[str] | None, typer.Option(help="A LiteLLM model id, as in openai/gpt-4o-mini.")
    ] = None,
    local: Annotated[
        list[Path] | None, typer.Option(help="Folder of a Hugging Face causal LM.")
    ] = None,
    vllm: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a model, or of a LoRA adapter, for engines that Conclave starts."
        ),
    ] = None,
    mcp: Annotated[
        list[str] | None,
        typer.Option(
            help="An MCP server: a URL, or a command in quotes. It is asked for its tools."
        ),
    ] = None,
    tools: Annotated[
        list[str] | None,
        typer.Option(help="Tools that come with Conclave: math, units, dates, lists, text or iox."),
    ] = None,
    bundled: Annotated[
        bool | None,
        typer.Option(
            "--bundled/--no-bundled",
            help="The bundled experts; by default when no other model is named.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented conclave.yaml, with the experts that you name.

    [dim]conclave init --openai http://localhost:8001/v1 --litellm openai/gpt-4o-mini[/dim]
    """
    from experts.errors import UserError
    from orchestrator.config import UNFILLED, LoRARank
    from orchestrator.proposals import Proposals

    if path.exists() and not force:
        raise UserError(f"{path} exists already. Replace it with --force, or name another file.")
    proposals = Proposals()
    for url in openai or ():
        proposals.add_server(url, only=model or (), api_key_env=api_key_env)
    for model_id in litellm or ():
        proposals.add_litellm(model_id)
    for folder in local or ():
        proposals.add_local(folder, path.parent)
    proposals.add_vllm(vllm or (), path.parent)
    for name in tools or ():
        proposals.add_tools(name)
    for way in mcp or ():
        proposals.add_mcp(way, path.parent)
    has_others = len(proposals.entries) > proposals.n_tool_servers
    with_bundled = not has_others if bundled is None else bundled
    if not (with_bundled or proposals.entries):
        raise UserError(
            "That leaves nobody to ask. Name an expert with --openai, --litellm, --local or "
            "--vllm, or leave --no-bundled out."
        )
    text = _TEMPLATE.replace(
        "{experts}", (BUNDLED if with_bundled else "") + "".join(proposals.entries)
    )
    if proposals.weights_bytes:
        room_gb = math.ceil(proposals.weights_bytes / 1e8) / 10
        text = text.replace("memory_gb: 1.0 ", f"memory_gb: {room_gb:.1f} ")
    if larger := [r for r in get_args(LoRARank) if r >= proposals.lora_rank > _LORA_RANK]:
        text = text.replace(f"max_lora_rank: {_LORA_RANK}", f"max_lora_rank: {larger[0]}")
    path.write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {path}.")
    if unfilled := [i for i, line in enumerate(text.splitlines(), 1) if UNFILLED in line]:
        lines = ", ".join(map(str, unfilled))
        typer.echo(
            f"Prices that nobody could tell are left to you: fill in {UNFILLED} in line {lines}."
        )
    typer.echo("See your pool with: conclave experts")
