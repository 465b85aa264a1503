"""What the configuration says about engines that Conclave runs: the section ``vllm``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from orchestrator.config.engine_arguments import Arguments, Environment
from orchestrator.config.fields import Strict

LoRARank = Literal[8, 16, 32, 64, 128, 256, 320, 512]
"""That vLLM takes as the largest."""


class SlotSection(Strict):
    """A place for one engine at a time: a GPU, or a share of one."""

    memory_gb: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """For weights, in 10^9 bytes; what the engine needs for keys and values is not in it."""
    concurrency: int = Field(default=64, ge=1)
    """Calls that an engine is given at once."""
    env: Environment = {}
    """E.g. CUDA_VISIBLE_DEVICES."""
    args: Arguments = []
    """Added to the command line of this slot's engines."""


class VLLMSettings(Strict):
    """Engines that Conclave starts, watches and stops."""

    python: Path | None = None
    """The Python that has vLLM; None is .venv-vllm/bin/python beside the file where it exists
    (`make vllm`), and otherwise the one that runs this."""
    slots: list[SlotSection] = Field(default=[SlotSection()], min_length=1)
    host_memory_gb: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """That the operating system can be expected to keep files in which were read: loads from there
    are taken to be quicker, and what comes next is read ahead."""
    policy: Literal["bounded", "first_come", "collation", "coserve"] = "bounded"
    """What is loaded next, and who is served when (experts/residency/policies)."""
    stand_ins: bool = False
    """An expert that is loaded may answer for one that is not, where the router expects to lose
    less by it than the load costs; the answer says so. Off, since who answers a question then
    depends on what else was asked just before. Only ``bounded`` does it."""
    max_wait_s: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The longest that a call may wait before it starts, while capacity allows; only ``bounded``
    keeps one."""
    args: Arguments = []
    """Added to the command line of every engine."""
    env: Environment = {}
    sleep_level: Literal[1, 2] | None = None
    """Engines of other families are put to sleep (1: weights in host memory, 2: dropped) instead of
    stopped; on GPUs, with --enable-sleep-mode in `args`."""
    max_asleep: int = Field(default=1, ge=1)
    max_lora_rank: LoRARank = 16
    start_s: float = Field(default=600, gt=0, allow_inf_nan=False)
    """To be healthy after a start; then an engine counts as hung."""
    stop_s: float = Field(default=15, gt=0, allow_inf_nan=False)
    hang_s: float = Field(default=120, gt=0, allow_inf_nan=False)
    """Without a new token while calls run; then an engine is killed, and its calls asked again."""

    @model_validator(mode="after")
    def _policy_can(self) -> VLLMSettings:
        for key, wanted in (
            ("max_wait_s", self.max_wait_s is not None),
            ("stand_ins", self.stand_ins),
        ):
            if wanted and self.policy != "bounded":
                raise ValueError(
                    f"`{key}` is for `policy: bounded` only; {self.policy!r} knows nothing of it. "
                    "Take one of the two out."
                )
        return self
