"""From configuration to experts on the engines that Conclave manages: one fleet for all of them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

from experts.bundled import FOLDER, bundled_cards
from experts.cards import (
    FORCED_TOOL_EXTRA,
    GUIDED_EXTRA,
    TOKEN_EXTRA,
    TOOL_EXTRA,
    ExpertCard,
    Prices,
)
from experts.errors import BadModel, ConfigError, DoesNotFit, did_you_mean
from experts.expert import Expert
from experts.residency.policies.base import Policy
from experts.residency.policies.bounded.policy import BoundedGrouping
from experts.residency.policies.collation import FifoCollation
from experts.residency.policies.coserve import CoServe
from experts.residency.policies.first_come import first_come
from experts.residency.values import Slot
from experts.tool_formats import ToolFormat, chosen_format, format_of
from experts.vllm.checkpoint import Checkpoint
from experts.vllm.engine import EngineSettings
from experts.vllm.expert import VLLMExpert
from experts.vllm.fleet import Fleet, FleetSlot
from experts.vllm.record import SwapRecord
from experts.vllm.slot import EngineSlot, Servable, SlotSettings, servable, servable_adapter
from experts.vllm.verify import Verifier
from experts.vllm.widening import common_shape, widen
from orchestrator.config import (
    BundledExperts,
    Config,
    ExpertSettings,
    VLLMExpertSettings,
    VLLMSettings,
)

OnVLLM = BundledExperts | VLLMExpertSettings
_BUNDLED_ARGS = ("--dtype", "float32", "--enforce-eager")
"""Widened checkpoints need single precision; tiny models gain nothing from compiled graphs."""
_CACHE_GIB = "1"
"""For keys and values on a CPU, where vLLM would take 4 GiB an engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """What an expert is made of, but for the fleet that serves it."""

    card: ExpertCard
    model: Servable
    tokenizer_folder: Path
    tool_format: ToolFormat | None = None


def is_on_vllm(settings: ExpertSettings) -> TypeGuard[OnVLLM]:
    if isinstance(settings, BundledExperts):
        return settings.runs_on == "vllm"
    return isinstance(settings, VLLMExpertSettings)


def experts_on_vllm(config: Config, all_settings: Sequence[OnVLLM]) -> dict[int, list[Expert]]:
    """Experts by the id of their settings, all on one fleet. No engine is started before the first
    call.

    Raises ConfigError when a folder is not a model, an adapter not of its base, or a model larger
    than every slot.
    """
    if not all_settings:
        return {}
    _check_python(config.vllm)
    models: dict[str, Servable] = {}
    all_made: dict[str, _Made] = {}
    folders: dict[str, Path] = {}
    """Of tokenizers."""
    names: dict[int, list[str]] = {}
    # Adapters last, so that their bases are known.
    for settings in sorted(all_settings, key=lambda s: getattr(s, "base", None) is not None):
        if isinstance(settings, BundledExperts):
            made = _bundled(settings, config)
        else:
            made = [_in_folder(settings, config, models, folders)]
        names[id(settings)] = [one.card.name for one in made]
        for one in made:
            name = one.card.name
            if name in models:
                raise ConfigError(f"Two experts are called {name!r}. Rename one.")
            all_made[name], models[name] = one, one.model
            folders[name] = one.tokenizer_folder
    fleet = make_fleet(
        config.vllm, models, config.data_dir / "vllm", host_usd_per_s=config.host_usd_per_s
    )
    siblings: dict[str, VLLMExpert] = {}
    experts = {
        name: VLLMExpert(one.card, fleet, one.tokenizer_folder, siblings, one.tool_format)
        for name, one in all_made.items()
    }
    if config.vllm.stand_ins:
        # Not judges: they are asked for their verdict, and never a question.
        siblings |= {n: experts[n] for s in config.experts for n in names.get(id(s), ())}
    return {key: [experts[n] for n in of_settings] for key, of_settings in names.items()}


def make_fleet(
    settings: VLLMSettings,
    models: dict[str, Servable],
    data_dir: Path,
    *,
    host_usd_per_s: float = 0.0,
) -> Fleet:
    """host_usd_per_s: what a second of loading costs, which stand-ins are weighed against. Raises
    DoesNotFit when a model is larger than every slot."""
    record = SwapRecord(data_dir / "swaps.jsonl")
    verifier = Verifier()
    slots = []
    for i, section in enumerate(settings.slots):
        name = f"slot{i}"
        engine = EngineSettings(
            python=str(settings.python or sys.executable),
            args=(*settings.args, *section.args),
            env={**cpu_environment(i, len(settings.slots)), **settings.env, **section.env},
            log_dir=data_dir / "logs",
            start_s=settings.start_s,
            stop_s=settings.stop_s,
            hang_s=settings.hang_s,
        )
        engines = EngineSlot(
            name,
            engine,
            SlotSettings(
                sleep_level=settings.sleep_level,
                max_asleep=settings.max_asleep,
                max_lora_rank=settings.max_lora_rank,
            ),
            models,
            record,
            verifier,
        )
        slot = Slot(
            name=name,
            memory_bytes=int(section.memory_gb * 1e9),
            concurrency=section.concurrency,
        )
        slots.append(FleetSlot(slot=slot, engines=engines))
    _check_sizes([slot.slot for slot in slots], models)
    return Fleet(
        slots,
        models,
        _policy(settings, host_usd_per_s),
        record,
        host_memory_bytes=int(settings.host_memory_gb * 1e9),
    )


def widened(names: Sequence[str], data_dir: Path, *, of: Path = FOLDER) -> dict[str, Path]:
    """Folders of the bundled models in their common shape, by name; made once."""
    from experts.local.fingerprint import weights_fingerprint

    every = sorted(p.parent.name for p in of.glob("*/config.json"))
    # Of all, not only of those that are named, so that another configuration finds them, too.
    shape = common_shape([of / name for name in every])
    said = "-".join(
        str(n) for n in (shape.width, shape.layers, shape.heads, shape.neurons, shape.words)
    )
    folders = {}
    for name in names:
        folder = data_dir / "widened" / said / f"{name}-{weights_fingerprint(of / name)}"
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
            try:
                widen(of / name, shape, unfinished)
                unfinished.rename(folder)
            except OSError:
                shutil.rmtree(unfinished, ignore_errors=True)
                if not folder.is_dir():  # else another process was quicker
                    raise
        folders[name] = folder
    return folders


def _bundled(settings: BundledExperts, config: Config) -> list[_Made]:
    cards = bundled_cards(names=settings.names, load_usd_per_s=config.host_usd_per_s)
    folders = widened([c.name for c in cards], config.data_dir / "vllm")
    made = []
    for card in cards:
        args = (*_BUNDLED_ARGS, "--max-model-len", str(card.context_tokens))
        model = servable(card.name, folders[card.name], args=args)
        tool_format = format_of(FOLDER / card.name)
        on_vllm = replace(
            card,
            kind="vllm",
            memory_bytes=model.weights.n_bytes,
            takes=_takes(False, has_tools=tool_format is not None),
        )
        made.append(
            _Made(
                card=on_vllm,
                model=model,
                tokenizer_folder=FOLDER / card.name,
                tool_format=tool_format,
            )
        )
    return made


def _in_folder(
    settings: VLLMExpertSettings,
    config: Config,
    models: dict[str, Servable],
    folders: dict[str, Path],
) -> _Made:
    guided = settings.guided
    try:
        if settings.base is None:
            model, base = _base(settings), None
        else:
            base = models.get(settings.base)
            if base is None:
                raise ConfigError(_no_base(settings, config, models))
            model = servable_adapter(
                settings.name, settings.folder, base, max_rank=config.vllm.max_lora_rank
            )
            guided = guided and _speaks_as(model, base)
    except (BadModel, ConfigError) as error:
        raise ConfigError(f"Expert {settings.name!r}: {error}") from None
    weights = (base or model).weights
    assert isinstance(weights, Checkpoint)  # noqa: S101
    has_own = settings.base is None or (settings.folder / "tokenizer.json").is_file()
    speaks = settings.folder if has_own else folders[settings.base or ""]
    tool_format = chosen_format(settings.tool_format, speaks)
    kind = "adapter" if base else str(weights.config.get("model_type", "model"))
    card = ExpertCard(
        name=settings.name,
        kind="vllm",
        description=settings.description or f"{kind} in {settings.folder.name}",
        prices=Prices(
            input_usd_per_mtok=settings.prices.input_usd_per_mtok,
            output_usd_per_mtok=settings.prices.output_usd_per_mtok,
            load_usd_per_s=config.host_usd_per_s,
        ),
        context_tokens=settings.context_tokens or weights.context_tokens,
        memory_bytes=model.weights.n_bytes,
        version=model.weights.version,
        modes=config.modes_of(settings),
        takes=_takes(guided, has_tools=tool_format is not None),
    )
    return _Made(card=card, model=model, tokenizer_folder=speaks, tool_format=tool_format)


def _takes(guided: bool, *, has_tools: bool) -> frozenset[str]:
    tools = (FORCED_TOOL_EXTRA if guided else TOOL_EXTRA) if has_tools else frozenset()
    return TOKEN_EXTRA | (GUIDED_EXTRA if guided else frozenset()) | tools


def _no_base(settings: VLLMExpertSettings, config: Config, models: Mapping[str, Servable]) -> str:
    base = settings.base or ""
    if base == settings.name:
        return "it cannot be its own base. `base` names the expert that the adapter was made for."
    for other in config.experts:
        if getattr(other, "name", None) == base and not isinstance(other, VLLMExpertSettings):
            return f"its base {base!r} is of `kind: {other.kind}`; it must be of `kind: vllm`."
        if isinstance(other, VLLMExpertSettings) and other.name == base and other.base is not None:
            return f"its base {base!r} is an adapter itself. Name the model that both sit on."
    return (
        f"its base {base!r} is no expert on vLLM.{did_you_mean(base, models)} "
        f"Those are: {', '.join(models) or 'none'}. Add the model that the adapter was made for: "
        f"{{kind: vllm, name: {base}, folder: ...}}."
    )


def _check_python(settings: VLLMSettings) -> None:
    """Here, and not when the first question needs an engine."""
    python = settings.python
    if python is not None and shutil.which(python) is None:
        raise ConfigError(
            f"`python` under `vllm:`: there is no program {str(python)!r}. Give the Python that "
            "has vLLM, as in .venv-vllm/bin/python (make vllm installs one for CPUs)."
        )


def _check_sizes(slots: Sequence[Slot], models: Mapping[str, Servable]) -> None:
    """The fleet refuses, too, in bytes: it knows nothing of the file."""
    largest = max(slot.memory_bytes for slot in slots)
    for model in models.values():
        needed = model.weights.n_bytes
        with_base = ""
        if model.base is not None:
            needed += models[model.base].weights.n_bytes
            with_base = f", its base {model.base!r} included"
        if needed > largest:
            raise DoesNotFit(
                f"Expert {model.name!r} needs {needed / 1e9:.3g} GB for weights{with_base}; the "
                f"largest slot has {largest / 1e9:.3g}. Raise its `memory_gb` (`vllm:`, `slots:`) "
                "if the GPU has that much, or take smaller or quantized weights."
            )


def _base(settings: VLLMExpertSettings) -> Servable:
    args = tuple(settings.args)
    if settings.context_tokens is not None:
        args = (*args, "--max-model-len", str(settings.context_tokens))
    return servable(settings.name, settings.folder, args=args, guided=settings.guided)


def _speaks_as(adapter: Servable, base: Servable) -> bool:
    """Whether the base's engine can guide it: by the base's tokenizer, which it keeps."""
    own = adapter.weights.folder / "tokenizer.json"
    theirs = base.weights.folder / "tokenizer.json"
    return bool(base.tokenizer) and (
        not own.is_file() or (theirs.is_file() and own.read_bytes() == theirs.read_bytes())
    )


def _policy(settings: VLLMSettings, host_usd_per_s: float) -> Policy:
    load_usd_per_s = host_usd_per_s if settings.stand_ins else 0.0
    policies: dict[str, Callable[[], Policy]] = {
        "bounded": lambda: BoundedGrouping(settings.max_wait_s, load_usd_per_s=load_usd_per_s),
        "first_come": first_come,
        "collation": FifoCollation,
        "coserve": CoServe,
    }
    return policies[settings.policy]()


def cpu_environment(slot: int, n_slots: int) -> dict[str, str]:
    """For a vLLM that is built for CPUs; others do not read it, or only to log a line. Left alone,
    all engines would bind themselves to the same cores."""
    n_cores = os.cpu_count() or 1
    env = {
        "VLLM_CPU_KVCACHE_SPACE": _CACHE_GIB,
        # The core runs the model itself. By default another process does, and the two wake one
        # another through shared memory: slower by 3/4, and now and then five seconds late.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        # Threads that wait for one another by spinning take the cores from whoever they wait for.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    if n_slots > 1 and n_cores >= n_slots:
        first, last = slot * n_cores // n_slots, (slot + 1) * n_cores // n_slots - 1
        env["VLLM_CPU_OMP_THREADS_BIND"] = f"{first}-{last}"
    return env
