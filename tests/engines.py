"""Fleets of scripted engines, for tests: models that answer what they are told to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from experts.bundled import FOLDER
from experts.cards import OPENAI_EXTRA, ExpertCard, Prices
from experts.local.chat_tokenizer import ChatTokenizer
from experts.residency.policies.base import Policy
from experts.residency.policies.coserve import CoServe
from experts.residency.values import Slot
from experts.values import Arm, Call, Message, Sampling
from experts.vllm.engine import EngineSettings
from experts.vllm.expert import VLLMExpert
from experts.vllm.fleet import Fleet, FleetSlot
from experts.vllm.patience import Patience
from experts.vllm.record import SwapRecord
from experts.vllm.slot import EngineSlot, Servable, SlotSettings, servable, servable_adapter
from experts.vllm.verify import MAX_HASHED_BYTES, Verifier

PROGRAM = str(Path(__file__).parent / "scripted_engine.py")
FAMILY = ("countries", "elements", "logic", "units")
"""Bundled models of one architecture, with one tokenizer."""
PRICES = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0, load_usd_per_s=0.5)


@cache
def tokenizer(name: str) -> ChatTokenizer:
    return ChatTokenizer(FOLDER / name)


def ask(model: str, question: str = "Who are you?", **more: object) -> Call:
    sampling = Sampling(**more.pop("sampling", {}))  # type: ignore[arg-type]
    return Call(
        query_id="q",
        arm=Arm(model),
        messages=(Message(role="user", content=question),),
        sampling=sampling,
        **more,  # type: ignore[arg-type]
    )


def model_folder(into: Path, name: str, answers: Mapping[str, str]) -> Path:
    """A bundled model's folder that says ``answers``; empty ones kill the engine."""
    folder = into / name
    shutil.copytree(FOLDER / name, folder)
    write_answers(folder, name, answers)
    return folder


def write_answers(folder: Path, name: str, answers: Mapping[str, str]) -> None:
    said: dict[str, list[int | str]] = {}
    for question, answer in answers.items():
        prompt = tokenizer(name).encode(ask(name, question))
        ids = tokenizer(name)._tokenizer(answer, add_special_tokens=False)["input_ids"]
        said[",".join(map(str, prompt))] = ids if answer else ["poison"]
    (folder / "answers.json").write_text(json.dumps(said))


def adapter_folder(
    into: Path, name: str, *, base: str, width: int = 96, rank: int = 4, answers: Mapping[str, str]
) -> Path:
    folder = into / name
    folder.mkdir()
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{module}.lora_A.weight": np.zeros((rank, width), np.float32),
        f"{module}.lora_B.weight": np.ones((width, rank), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "r": rank, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    write_answers(folder, base, answers)
    return folder


@dataclass
class Lab:
    """A fleet of scripted engines, its experts, and its faults."""

    folder: Path
    fleet: Fleet
    experts: dict[str, VLLMExpert]
    slots: list[EngineSlot]
    models: dict[str, Servable]

    @property
    def slot(self) -> EngineSlot:
        return self.slots[0]

    @property
    def ways(self) -> list[tuple[str, str, bool]]:
        return [(s.way, s.model, s.ok) for s in self.fleet.record.swaps]

    @property
    def asked(self) -> list[dict[str, object]]:
        """Bodies of the calls, once ``note`` was called."""
        return [json.loads(x) for x in (self.folder / "asked.jsonl").read_text().splitlines()]

    def teach(self, call: Call, answer: str) -> None:
        """What its expert's model says to it."""
        name = call.arm.expert
        path = self.folder / name / "answers.json"
        speaks = self.experts[name]._loaded_tokenizer()
        ids = speaks._tokenizer(answer, add_special_tokens=False)["input_ids"]
        told = {**json.loads(path.read_text()), ",".join(map(str, speaks.encode(call))): ids}
        path.write_text(json.dumps(told))

    def note(self) -> None:
        (self.folder / "asked.jsonl").touch()

    def order(self, *faults: str) -> None:
        for fault in faults:
            (self.folder / "faults" / fault).touch()


@dataclass(frozen=True)
class Settings:
    """Of a lab."""

    names: tuple[str, ...] = FAMILY
    n_slots: int = 1
    concurrency: int = 8
    policy: Policy | None = None
    slot: SlotSettings = field(default_factory=SlotSettings)
    start_s: float = 20.0
    hang_s: float = 20.0
    port: int = 0
    call_s: float = 0.0
    patience: Patience = field(default_factory=lambda: Patience(first_back_off_s=0.01))
    kept_s: float = float("inf")
    """Engines hang up on idle connections after it."""
    sees_layers: bool = True
    """Linear layers can be compared with the file's; on CPUs, vLLM packs them."""
    max_hashed_bytes: float = MAX_HASHED_BYTES
    is_tied: bool = True
    """Heads are the embeddings, as those of the bundled models are; else their config says no."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Base by adapter."""
    answers: Mapping[str, str] = field(default_factory=dict)
    """Of all models, beside who they are."""
    stand_ins: bool = False
    """Any model may answer for any other."""
    prices: Mapping[str, Prices] = field(default_factory=dict)
    """By model; ``PRICES`` of the others."""
    context_tokens: Mapping[str, int] = field(default_factory=dict)
    """By model; 256 of the others."""
    tool_template: str = ""
    """Chat template of all models, which then write tool calls as ``hermes``."""
    is_mute: bool = False
    """They need not be asked: transformers is not imported."""


@contextmanager
def lab(folder: Path, **settings: object) -> Iterator[Lab]:
    """Ends all of its engines."""
    made = Settings(**settings)  # type: ignore[arg-type]
    (folder / "faults").mkdir(exist_ok=True)
    models = {name: servable(name, _model_folder_of(folder, name, made)) for name in made.names}
    if not made.is_tied:
        models = {name: _with_a_head(name, folder / name) for name in made.names}
    for name, base in made.adapters.items():
        answers = {"Who are you?": f"I am {name}"}
        path = adapter_folder(folder, name, base=base, answers=answers)
        models[name] = servable_adapter(name, path, models[base], max_rank=16)
    engine = EngineSettings(
        python=sys.executable,
        program=("-E", "-S", PROGRAM),
        env={
            "SCRIPTED_FAULTS": str(folder / "faults"),
            "SCRIPTED_CALL_S": str(made.call_s),
            "SCRIPTED_KEPT_S": str(made.kept_s),
            **({"SCRIPTED_SEES_LAYERS": "1"} if made.sees_layers else {}),
        },
        log_dir=folder / "logs",
        start_s=made.start_s,
        stop_s=5.0,
        hang_s=made.hang_s,
        port=made.port,
    )
    record, verifier = SwapRecord(), Verifier(made.max_hashed_bytes)
    slots = [
        EngineSlot(f"slot{i}", engine, made.slot, models, record, verifier)
        for i in range(made.n_slots)
    ]
    fleet = Fleet(
        [
            FleetSlot(
                slot=Slot(name=s.name, memory_bytes=1 << 24, concurrency=made.concurrency),
                engines=s,
            )
            for s in slots
        ],
        models,
        made.policy or CoServe(),
        record,
        patience=made.patience,
    )
    siblings: dict[str, VLLMExpert] = {}
    experts = {
        name: VLLMExpert(
            _card(model, made),
            fleet,
            (folder if made.tool_template else FOLDER) / (model.base or name),
            siblings,
            "hermes" if made.tool_template else None,
        )
        for name, model in models.items()
    }
    siblings |= experts if made.stand_ins else {}
    try:
        yield Lab(folder, fleet, experts, slots, models)
    finally:
        fleet.close()


def _model_folder_of(folder: Path, name: str, made: Settings) -> Path:
    answers = {} if made.is_mute else {"Who are you?": f"I am {name}", **made.answers}
    model = model_folder(folder, name, answers)
    if made.tool_template:
        (model / "chat_template.jinja").write_text(made.tool_template)
    return model


def _with_a_head(name: str, folder: Path) -> Servable:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return servable(name, folder)


def _card(model: Servable, made: Settings) -> ExpertCard:
    return ExpertCard(
        name=model.name,
        kind="vllm",
        description="",
        prices=made.prices.get(model.name, PRICES),
        context_tokens=made.context_tokens.get(model.name, 256),
        version=model.weights.version,
        takes=OPENAI_EXTRA,
    )


def processes_of(group: int | None) -> list[int]:
    """Process ids in a group, without those that have ended."""
    found = subprocess.run(
        ["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in found.stdout.splitlines()]
    return [int(pid) for pid, pgid, stat in rows if int(pgid) == group and stat[0] != "Z"]


def kill(pid: int | None) -> None:
    assert pid
    os.kill(pid, 9)
