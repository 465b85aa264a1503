"""Swaps and the fleet on the real vLLM: one engine for all bundled experts, adapters, sleep, and
engines that are killed or stopped. Each start takes half a minute, so engines are shared."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from eval.questions import lab_questions
from experts.bundled import FOLDER, bundled_experts, bundled_models
from experts.errors import EngineFailed
from experts.expert import Expert
from experts.lab.questions import skills_of
from experts.local.expert import LocalExpert
from experts.values import Arm, Call, Completion, Delta, Message, Sampling
from experts.vllm.engine import Engine, EngineSettings
from experts.vllm.expert import VLLMExpert
from experts.vllm.fleet import Fleet
from orchestrator.config import load_config
from orchestrator.pool import make_experts
from orchestrator.vllm_pool import widened
from tests.engines import processes_of

N_PER_SKILL = 3
PRICES = "prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
CONTEXT = "context_tokens: 256, args: [--dtype, float32, --enforce-eager]"


def configured(folder: Path, text: str) -> dict[str, Expert]:
    path = folder / "conclave.yaml"
    python = os.environ["CONCLAVE_VLLM_PYTHON"]
    path.write_text(f"data_dir: data\n{text.replace('PYTHON', python)}", encoding="utf-8")
    return make_experts(load_config(path))


def fleet_of(experts: Mapping[str, Expert]) -> Fleet:
    expert = next(iter(experts.values()))
    assert isinstance(expert, VLLMExpert)
    return expert._fleet


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Expert]]:
    """All bundled experts on one slot."""
    experts = configured(
        tmp_path_factory.mktemp("bundled"),
        "vllm: {python: PYTHON, hang_s: 8}\nexperts: [{kind: bundled, runs_on: vllm}]",
    )
    yield experts
    fleet_of(experts).close()


def calls_to(name: str, n: int = N_PER_SKILL) -> list[Call]:
    [model] = [m for m in bundled_models() if m.name == name]
    skills = [s.name for s in skills_of(model.categories)]
    questions = lab_questions(n, "test", held_out_wording=False, seed=3, skills=skills)
    return [q.call(Arm(name)) for q in questions]


def in_this_process(name: str, calls: list[Call]) -> list[Completion]:
    with ThreadPoolExecutor(1) as worker:
        [expert] = bundled_experts(worker, names=[name], load_usd_per_s=0.0)
        return asyncio.run(expert.complete(calls))


def say_the_same(completions: list[Completion], others: list[Completion]) -> None:
    assert [c.error for c in completions] == [None] * len(others)
    assert [c.text for c in completions] == [c.text for c in others]
    assert [c.usage for c in completions] == [c.usage for c in others]
    for completion, other in zip(completions, others, strict=True):
        assert completion.logprob == pytest.approx(other.logprob, abs=1e-3)


def test_one_engine_is_every_bundled_expert_in_turn(bundled: dict[str, Expert]) -> None:
    """Three tokenizers, five architectures: the same tokens as each alone has in this process."""
    calls = {name: calls_to(name) for name in bundled}

    async def asked() -> list[list[Completion]]:
        return await asyncio.gather(*(bundled[n].complete(c) for n, c in calls.items()))

    for name, completions in zip(calls, asyncio.run(asked()), strict=True):
        say_the_same(completions, in_this_process(name, calls[name]))
    record = fleet_of(bundled).record
    assert [s.way for s in record.swaps] == ["restart", *["in_place"] * (len(bundled) - 1)]
    assert all(s.ok for s in record.swaps)


def test_in_place_is_fifty_times_faster_than_a_restart(bundled: dict[str, Expert]) -> None:
    for name, expert in bundled.items():
        asyncio.run(expert.complete(calls_to(name, 1)[:1]))
    record = fleet_of(bundled).record
    restart_s, in_place_s = (statistics.median(record.seconds(w)) for w in ("restart", "in_place"))
    assert restart_s > 50 * in_place_s, (restart_s, in_place_s)


def test_streams_limits_stops_and_samples(bundled: dict[str, Expert]) -> None:
    [call, *_] = calls_to("arithmetic")
    [whole] = asyncio.run(bundled["arithmetic"].complete([call]))

    async def streamed() -> list[Delta | Completion]:
        return [piece async for piece in bundled["arithmetic"].stream(call)]

    *deltas, last = asyncio.run(streamed())
    assert isinstance(last, Completion)
    assert "".join(d.text for d in deltas if isinstance(d, Delta)) == last.text == whole.text
    assert last.usage == whole.usage

    def asked(**sampling: object) -> Completion:
        changed = replace(call, sampling=Sampling(**sampling))  # type: ignore[arg-type]
        [completion] = asyncio.run(bundled["arithmetic"].complete([changed]))
        return completion

    short = asked(max_tokens=2)
    assert (short.finish_reason, short.usage.output_tokens) == ("length", 2)
    cut = asked(stop=(whole.text[1:3],))
    assert (cut.finish_reason, cut.text) == ("stop", whole.text[:1])
    # Rarely sure of itself: a factual question that it knows little about.
    unsure = calls_to("generalist")[-1]
    sampled = [
        replace(unsure, sampling=Sampling(temperature=2.0, seed=seed)) for seed in (*range(8), 0)
    ]
    said = [c.text for c in asyncio.run(bundled["generalist"].complete(sampled))]
    assert said[0] == said[-1]
    assert len(set(said)) > 1


@pytest.mark.parametrize(("number", "victim"), [(signal.SIGKILL, "core"), (signal.SIGSTOP, "core")])
def test_an_engine_that_is_killed_or_stops_loses_no_call(
    bundled: dict[str, Expert], number: signal.Signals, victim: str
) -> None:
    fleet = fleet_of(bundled)
    [slot] = fleet.slots.values()
    calls = calls_to("logic") * 20
    asyncio.run(bundled["logic"].complete(calls[:1]))
    group = slot.engine.pid
    core = engine_core(group)
    # Stopped before it is asked: however fast the machine, its calls are under way when it dies.
    os.kill(core, signal.SIGSTOP)

    async def asked() -> list[Completion]:
        task = asyncio.ensure_future(bundled["logic"].complete(calls))
        while not fleet._books.running:
            await asyncio.sleep(0.01)
        os.kill(core, number)
        return await task

    say_the_same(asyncio.run(asked()), in_this_process("logic", calls))
    assert slot.engine.pid != group
    assert not processes_of(group)


def engine_core(group: int | None) -> int:
    """A vLLM 0.32 is an API server, a core, a worker, and multiprocessing's helpers."""
    found = subprocess.run(
        ["ps", "-eo", "pid=,pgid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in found.stdout.splitlines()]
    [core] = [int(pid) for pid, pgid, args in rows if int(pgid) == group and "EngineCore" in args]
    return core


def test_closing_leaves_no_process(bundled: dict[str, Expert]) -> None:
    fleet = fleet_of(bundled)
    [slot] = fleet.slots.values()
    group = slot.engine.pid
    assert processes_of(group)
    fleet.close()
    assert not processes_of(group)


# Adapters and sleep


def adapted(folder: Path, base: Path, seed: int, rank: int = 4) -> dict[str, Path]:
    """An adapter on the query projections, and the same merged into the base."""
    rng = np.random.default_rng(seed)
    adapter, merged = folder / f"adapter{seed}", folder / f"merged{seed}"
    adapter.mkdir()
    shutil.copytree(base, merged)
    weights = {k: v.astype(np.float32) for k, v in load_file(base / "model.safetensors").items()}
    tensors = {}
    for name in [n for n in weights if n.endswith("self_attn.q_proj.weight")]:
        rows, columns = weights[name].shape
        a = rng.normal(0, 0.3, (rank, columns)).astype(np.float32)
        b = rng.normal(0, 0.3, (rows, rank)).astype(np.float32)
        module = f"base_model.model.{name.removesuffix('.weight')}"
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        weights[name] = weights[name] + b @ a
    save_file(tensors, adapter / "adapter_model.safetensors")
    about = {
        "peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"],
        "base_model_name_or_path": base.name, "bias": "none", "task_type": "CAUSAL_LM",
    }  # fmt: skip
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    return {"adapter": adapter, "merged": merged}


def test_adapters_beside_their_base_and_an_engine_that_sleeps(tmp_path: Path) -> None:
    made = {seed: adapted(tmp_path, FOLDER / "countries", seed) for seed in (1, 2)}
    experts = configured(
        tmp_path,
        f"""
vllm: {{python: PYTHON, sleep_level: 2}}
experts:
- {{kind: vllm, name: base, folder: "{FOLDER / "countries"}", {CONTEXT}, {PRICES}}}
- {{kind: vllm, name: first, folder: adapter1, base: base, {PRICES}}}
- {{kind: vllm, name: second, folder: adapter2, base: base, {PRICES}}}
- {{kind: vllm, name: other, folder: "{FOLDER / "words"}", {CONTEXT}, {PRICES}}}
- {{kind: vllm, name: cousin, folder: "{FOLDER / "units"}", {CONTEXT}, {PRICES}}}
""",
    )
    fleet = fleet_of(experts)
    calls = calls_to("countries", 2)

    def asked(*names: str) -> list[list[Completion]]:
        async def together() -> list[list[Completion]]:
            return await asyncio.gather(*(experts[n].complete(calls) for n in names))

        return asyncio.run(together())

    try:
        plain, first, second = asked("base", "first", "second")
        say_the_same(plain, in_this_process("countries", calls))
        with ThreadPoolExecutor(1) as worker:
            for completions, seed in ((first, 1), (second, 2)):
                card = experts["base"].card
                merged = LocalExpert(card, made[seed]["merged"], worker=worker)
                say_the_same(completions, asyncio.run(merged.complete(calls)))
        assert sorted(s.way for s in fleet.record.swaps) == ["adapter", "adapter", "restart"]
        restart_s = statistics.median(fleet.record.seconds("restart"))
        assert restart_s > 50 * statistics.median(fleet.record.seconds("adapter"))
        n_swaps = len(fleet.record.swaps)
        asked("second", "base", "first")
        assert len(fleet.record.swaps) == n_swaps  # all of them at once, and no swap
        # Another family: the engine goes to sleep, and wakes up as itself.
        for name, way in (("other", "restart"), ("base", "wake"), ("other", "wake")):
            [completions] = asked(name)
            assert fleet.record.swaps[-1].way == way, fleet.record.swaps[-1]
            if name == "base":
                say_the_same(completions, plain)
        calls_of_units = calls_to("units", 2)
        completions = asyncio.run(experts["cousin"].complete(calls_of_units))
        say_the_same(completions, in_this_process("units", calls_of_units))
        # On CPUs, a reload of an engine that takes adapters forgets the linear layers.
        assert fleet.record.swaps[-1].way == "restart"
    finally:
        fleet.close()


def test_an_architecture_that_vllm_does_not_know_is_said_so(tmp_path: Path) -> None:
    folder = tmp_path / "strange"
    shutil.copytree(FOLDER / "words", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"architectures": ["StrangeForCausalLM"], "model_type": "strange"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = EngineSettings(python=os.environ["CONCLAVE_VLLM_PYTHON"], log_dir=tmp_path)
    with pytest.raises(EngineFailed, match="does not know this architecture"):
        asyncio.run(Engine("strange", settings).start(folder, "--max-model-len", "256"))


def test_guided_output_of_two_models_on_one_engine(tmp_path: Path) -> None:
    """Models that never saw JSON write it, before and after a swap in place: their engine keeps the
    tokenizer, which both have. The guided tokens are theirs: a log-probability for each."""
    # They would put blanks between the tokens for ever.
    compact = (
        '--structured-outputs-config, \'{"backend": "xgrammar", "disable_any_whitespace": true}\''
    )
    args = f"context_tokens: 256, args: [--dtype, float32, --enforce-eager, {compact}]"
    # As they are, their heads are tied to the embeddings, which no reload on CPUs gets right.
    folders = widened(["countries", "units"], tmp_path)
    experts = configured(
        tmp_path,
        f"""
vllm: {{python: PYTHON}}
experts:
- {{kind: vllm, name: countries, folder: "{folders["countries"]}", {args}, {PRICES}}}
- {{kind: vllm, name: units, folder: "{folders["units"]}", {args}, {PRICES}}}
""",
    )
    schema = {
        "type": "object",
        "properties": {
            "city": {"enum": ["Lima", "Rome"]},
            "n": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    asked: list[tuple[dict[str, object], re.Pattern[str]]] = [
        ({"guided_regex": "[0-9]{3}-[a-f]"}, re.compile("[0-9]{3}-[a-f]")),
        ({"guided_choice": ["maybe", "never"]}, re.compile("maybe|never")),
        ({"structured_outputs": {"choice": ["x", "y"]}}, re.compile("x|y")),
        ({"logit_bias": {"5": 100.0}}, re.compile(r"(.)\1*")),
        ({"frequency_penalty": 2.0, "presence_penalty": 2.0}, re.compile(".*", re.S)),
    ]

    def with_extra(call: Call, **extra: object) -> Call:
        told = tuple((name, json.dumps(value)) for name, value in sorted(extra.items()))
        return replace(call, sampling=Sampling(extra=told))

    form = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    try:
        for name, expert in experts.items():
            [call, *_] = calls_to(name)
            calls = [with_extra(call, **extra) for extra, _ in asked]
            in_json = with_extra(call, response_format=form, logprobs=True, top_logprobs=2)
            wrong = with_extra(call, guided_regex="(((")
            *guided, formed, plain, refused = asyncio.run(
                expert.complete([*calls, in_json, call, wrong])
            )
            for completion, (_, pattern) in zip(guided, asked, strict=True):
                assert pattern.fullmatch(completion.text), completion
            assert set(json.loads(formed.text)) == {"city", "n"}
            told = json.loads(formed.token_logprobs or "")
            assert "".join(t["token"] for t in told) == formed.text
            assert all(len(t["top_logprobs"]) == 2 for t in told)
            say_the_same([plain], in_this_process(name, [call]))
            assert refused.error_code == "refused"
        assert [s.way for s in fleet_of(experts).record.swaps] == ["restart", "in_place"]
    finally:
        fleet_of(experts).close()


def test_the_tool_caller_calls_and_can_be_made_to(tmp_path: Path) -> None:
    """Left to itself it writes the calls that it writes in this process; where a function is
    forced, a grammar (xgrammar) holds it to that."""
    compact = (
        '--structured-outputs-config, \'{"backend": "xgrammar", "disable_any_whitespace": true}\''
    )
    experts = configured(
        tmp_path,
        f"""
vllm: {{python: PYTHON}}
experts:
- {{kind: vllm, name: tool_caller, folder: "{FOLDER / "tool_caller"}", context_tokens: 1024,
   args: [--dtype, float32, --enforce-eager, {compact}], {PRICES}}}
""",
    )
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": told,
                "parameters": {
                    "type": "object",
                    "properties": {"channel": {"type": "string"}},
                    "required": ["channel"],
                },
            },
        }
        for name, told in {
            "line_of_sight": "Tells whether a wireless channel has a line of sight.",
            "snr_band": "Tells the signal-to-noise ratio of a wireless channel.",
        }.items()
    ]

    def asked(question: str, **choice: object) -> Call:
        extra = {"tools": tools, **choice}
        told = tuple((name, json.dumps(value)) for name, value in sorted(extra.items()))
        return Call(
            query_id=question,
            arm=Arm("tool_caller"),
            messages=(Message(role="user", content=question),),
            sampling=Sampling(max_tokens=64, extra=told),
        )

    free = [asked("Does channel H3 have a line of sight?"), asked("What is the SNR of H12?")]
    named = {"type": "function", "function": {"name": "snr_band"}}
    forced = asked("Does channel H3 have a line of sight?", tool_choice=named)
    try:
        *written, held = asyncio.run(experts["tool_caller"].complete([*free, forced]))
        say_the_same(written, in_this_process("tool_caller", free))
        [call] = written[0].tool_calls
        assert (call.name, json.loads(call.arguments)) == ("line_of_sight", {"channel": "H3"})
        assert held.error is None
        [call] = held.tool_calls
        assert call.name == "snr_band"
        assert set(json.loads(call.arguments)) == {"channel"}
    finally:
        fleet_of(experts).close()
