"""Arguments and variables for vLLM that a configuration may not bring: Conclave sets them, or would
be cut off by them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from orchestrator.config.fields import Word

_OURS = dict.fromkeys(
    (
        "--host", "--model", "--port", "--served-model-name", "--uds",
        "--enable-lora", "--max-loras", "--max-cpu-loras", "--lora-modules",
    ),
    "Conclave sets it itself; leave it out",
)  # fmt: skip
_ELSEWHERE = {
    "--max-model-len": "set `context_tokens` of the expert instead: Conclave must know it, too",
    "--max-lora-rank": "set `max_lora_rank` under `vllm:` instead, which adapters are checked by",
    "--skip-tokenizer-init": "set `guided: false` of the expert instead",
    "--logprobs-mode": "log-probabilities are read as vLLM tells them by default; leave it out",
    "--config": "write its arguments here, where they are checked",
}
_CUTS_US_OFF = dict.fromkeys(
    ("--api-key", "--root-path", "--ssl-certfile", "--ssl-keyfile"),
    "engines listen on this machine only and are asked without it; leave it out. A server that "
    "has it is an expert of `kind: openai`",
)
_NOT_HERE = {**_OURS, **_ELSEWHERE, **_CUTS_US_OFF}


def check_engine_arguments(args: list[str]) -> list[str]:
    """The arguments as they are. Raises ValueError for one that may not be, or two in one item.

    >>> check_engine_arguments(["--dtype", "float32"])
    ['--dtype', 'float32']
    """
    for arg in args:
        name, _, _ = arg.partition("=")
        if name.startswith("-") and len(words := arg.split()) > 1 and " " in name:
            raise ValueError(f"{arg!r} is {len(words)} words: write [{', '.join(words)}]")
        # vLLM takes underscores for dashes.
        said = name.replace("_", "-")
        if why := _NOT_HERE.get(said):
            raise ValueError(f"{name} cannot be given here: {why}.")
        # And the beginning of a name for the name, where no other begins so.
        if said.startswith("--") and len(said) > 3:
            for whole, why in _NOT_HERE.items():
                if whole.startswith(said):
                    raise ValueError(
                        f"{name} may be read as {whole}, which cannot be given: {why}."
                    )
    return args


_NEEDED = {
    "VLLM_SERVER_DEV_MODE": "it opens the routes by which models are swapped",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "it lets adapters be loaded",
}


def check_engine_environment(env: dict[str, str]) -> dict[str, str]:
    """The variables as they are. Raises ValueError for one without which, or with which, engines
    could not be told anything."""
    for name, why in _NEEDED.items():
        if env.get(name, "1") != "1":
            raise ValueError(f"{name} must be 1, and is unless you say otherwise: {why}.")
    if "VLLM_API_KEY" in env:
        raise ValueError("VLLM_API_KEY cannot be given here: engines are asked without a key.")
    return env


Arguments = Annotated[list[Word], AfterValidator(check_engine_arguments)]
"""Of an engine's command line, one word an item."""
Environment = Annotated[dict[str, Word], AfterValidator(check_engine_environment)]
"""Of an engine."""
