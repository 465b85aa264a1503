"""Arguments for vLLM that a configuration may not bring: Conclave sets them, or needs them not."""

from __future__ import annotations

_OURS = dict.fromkeys(
    ("--host", "--model", "--port", "--served-model-name", "--uds"),
    "Conclave sets it itself; leave it out",
)
_ELSEWHERE = {
    "--max-model-len": "set `context_tokens` of the expert instead: Conclave must know it, too",
    "--max-lora-rank": "set `max_lora_rank` under `vllm:` instead, which adapters are checked by",
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
        if why := _NOT_HERE.get(name.replace("_", "-")):
            raise ValueError(f"{name} cannot be given here: {why}.")
    return args
