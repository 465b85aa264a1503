"""Experts on engines, from the configuration; on scripted engines where any is needed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from experts.bundled import FOLDER, bundled_cards
from experts.errors import ConfigError, DoesNotFit
from experts.values import Completion
from orchestrator.config import load_config
from orchestrator.pool import make_experts, make_experts_and_judges
from tests.engines import PROGRAM, adapter_folder, ask, model_folder
from tests.experts.test_tool_calls import HERMES

PRICES = "prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}"


def made(text: str, folder: Path, make=make_experts):
    path = folder / "conclave.yaml"
    path.write_text(f"data_dir: data\n{textwrap.dedent(text)}", encoding="utf-8")
    return make(load_config(path))


def refused(text: str, folder: Path, make=make_experts) -> str:
    with pytest.raises(ConfigError) as error:
        made(text, folder, make)
    return re.sub(r"\s+", " ", str(error.value))


def test_bundled_experts_on_vllm_are_the_same_experts(tmp_path: Path) -> None:
    experts = made("experts: [{kind: bundled, runs_on: vllm}]", tmp_path)
    for card in bundled_cards(load_usd_per_s=2.5e-5):
        on_vllm = experts[card.name].card
        # The version too: what is fitted serves both.
        assert (on_vllm.version, on_vllm.prices) == (card.version, card.prices)
        assert on_vllm.kind == "vllm"
    fleets = {id(e._fleet) for e in experts.values()}
    assert len(fleets) == 1
    families = {m.family for m in experts["words"]._fleet.models.values()}
    assert len(families) == 1


def test_a_second_start_finds_the_widened_checkpoints(tmp_path: Path) -> None:
    text = "experts: [{kind: bundled, names: [words], runs_on: vllm}]"
    made(text, tmp_path)
    [path] = (tmp_path / "data").rglob("model.safetensors")
    written = path.stat().st_mtime_ns
    made(text, tmp_path)
    assert path.stat().st_mtime_ns == written


def test_models_and_adapters_in_folders(tmp_path: Path) -> None:
    model_folder(tmp_path, "logic", {})
    adapter_folder(tmp_path, "polite", base="logic", answers={})
    experts = made(
        f"""
        vllm: {{slots: [{{memory_gb: 0.5}}, {{}}], max_lora_rank: 8}}
        experts:
        - {{kind: vllm, name: polite, folder: polite, base: it, {PRICES}}}
        - {{kind: vllm, name: it, folder: logic, context_tokens: 128, {PRICES}}}
        """,
        tmp_path,
    )
    assert list(experts) == ["polite", "it"]
    assert experts["it"].card.context_tokens == 128
    assert experts["polite"].card.memory_bytes < experts["it"].card.memory_bytes


def test_what_cannot_be_is_refused_before_an_engine_is_started(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "logic", {})
    adapter_folder(tmp_path, "wide", base="logic", width=64, answers={})

    def expert(**keys: str) -> str:
        said = ", ".join(f"{k}: {v}" for k, v in keys.items())
        return f"{{kind: vllm, {said}, {PRICES}}}"

    it = expert(name="it", folder="logic")
    wide = expert(name="wide", folder="wide", base="it")
    assert "Expert 'nay': There is no folder" in refused(
        f"experts: [{expert(name='nay', folder='nowhere')}]", tmp_path
    )
    assert "made for another base" in refused(f"experts: [{it}, {wide}]", tmp_path)
    lost = expert(name="a", folder="wide", base="them")
    assert "its base 'them' is no expert" in refused(f"experts: [{it}, {lost}]", tmp_path)
    own = expert(name="a", folder="wide", base="a")
    assert "cannot be its own base" in refused(f"experts: [{own}]", tmp_path)
    here = f"{{kind: local, name: them, folder: logic, {PRICES}}}"
    assert "is of `kind: local`" in refused(f"experts: [{here}, {lost}]", tmp_path)
    alone = expert(name="a", folder="wide")
    assert "holds a LoRA adapter" in refused(f"experts: [{alone}]", tmp_path)
    whole = expert(name="a", folder="logic", base="it")
    assert "Leave `base` out" in refused(f"experts: [{it}, {whole}]", tmp_path)
    assert "there is no program 'nope'" in refused(
        f"vllm: {{python: nope}}\nexperts: [{it}]", tmp_path
    )
    assert "Did you mean 'slots'?" in refused("vllm: {slot: []}", tmp_path)
    assert "Did you mean 'memory_gb'?" in refused("vllm: {slots: [{memory: 1}]}", tmp_path)
    assert "Did you mean 'folder'?" in refused(
        f"experts: [{{kind: vllm, name: it, folde: x, {PRICES}}}]", tmp_path
    )
    with pytest.raises(DoesNotFit, match=r"largest slot has .*`memory_gb`"):
        made(f"vllm: {{slots: [{{memory_gb: 0.0001}}]}}\nexperts: [{it}]", tmp_path)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    assert "is not a safetensors file" in refused(f"experts: [{it}]", tmp_path)


def test_the_python_that_make_vllm_installs_is_found_beside_the_file(tmp_path: Path) -> None:
    python = tmp_path / ".venv-vllm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(FOLDER)
    (tmp_path / "conclave.yaml").write_text("{}")
    assert load_config(tmp_path / "conclave.yaml").vllm.python == python


def test_engines_on_cpus_run_models_in_their_core_unless_the_owner_says_otherwise(
    tmp_path: Path,
) -> None:
    model_folder(tmp_path, "logic", {}).rename(tmp_path / "it")
    experts = made(
        f"""
        vllm: {{slots: [{{}}, {{env: {{VLLM_ENABLE_V1_MULTIPROCESSING: "1"}}}}]}}
        experts: [{{kind: vllm, name: it, folder: it, {PRICES}}}]
        """,
        tmp_path,
    )
    engines = [slot.engine.settings.env for slot in experts["it"].fleet.slots.values()]
    assert [env["VLLM_ENABLE_V1_MULTIPROCESSING"] for env in engines] == ["0", "1"]
    assert {env["OMP_WAIT_POLICY"] for env in engines} == {"PASSIVE"}


def test_an_engine_that_guides_is_shared_by_equal_tokenizers_only(tmp_path: Path) -> None:
    for name in ("it", "chatty", "other"):
        model_folder(tmp_path, "logic", {}).rename(tmp_path / name)
    template = tmp_path / "chatty" / "chat_template.jinja"
    template.write_text("{{ messages[0].content }}")
    told = json.loads((tmp_path / "other" / "tokenizer.json").read_text())
    told["model"]["vocab"]["another"] = told["model"]["vocab"].pop("the")
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(told))

    def families(guided: str) -> list[str]:
        text = "".join(
            f"- {{kind: vllm, name: {n}, folder: {n}, guided: {guided}, {PRICES}}}\n"
            for n in ("it", "chatty", "other")
        )
        experts = made(f"experts:\n{text}", tmp_path)
        takes = {"response_format" in e.card.takes for e in experts.values()}
        assert takes == {guided == "true"}
        assert all("logit_bias" in e.card.takes for e in experts.values())
        return [m.family for m in experts["it"].fleet.models.values()]

    it, chatty, other = families("true")
    assert it == chatty != other
    assert len({*families("false"), it, other}) == 3


def test_tools_are_for_models_whose_template_has_them(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "logic", {})

    def tools(keys: str) -> set[str]:
        text = f"experts:\n- {{kind: vllm, name: it, folder: logic, {keys}, {PRICES}}}\n"
        return {n for n in made(text, tmp_path)["it"].card.takes if "tool" in n}

    assert tools("guided: true") == set()
    (folder / "chat_template.jinja").write_text(HERMES)
    assert tools("guided: true") == {"tools", "tool_choice", "parallel_tool_calls"}
    assert tools("guided: false") == {"tools", "parallel_tool_calls"}
    assert tools("tool_format: none") == set()
    local = f"experts: [{{kind: local, name: it, folder: logic, {PRICES}}}]"
    assert "tools" in made(local, tmp_path)["it"].card.takes


def test_an_adapter_is_guided_where_its_base_is_and_speaks_alike(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "logic", {})
    for name in ("plain", "own", "strange"):
        adapter_folder(tmp_path, name, base="logic", answers={})
    shutil.copy(folder / "tokenizer.json", tmp_path / "own")
    (tmp_path / "strange" / "tokenizer.json").write_text("{}")
    for guided in (True, False):
        text = f"experts:\n- {{kind: vllm, name: it, folder: logic, guided: {guided}, {PRICES}}}\n"
        for name in ("plain", "own", "strange"):
            text += f"- {{kind: vllm, name: {name}, folder: {name}, base: it, {PRICES}}}\n"
        experts = made(text, tmp_path)
        able = {n for n, e in experts.items() if "guided_json" in e.card.takes}
        assert able == ({"it", "plain", "own"} if guided else set())


def test_a_model_without_a_tokenizer_is_not_guided(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "logic", {})
    (folder / "tokenizer.json").unlink()
    text = f"experts: [{{kind: vllm, name: it, folder: logic, {PRICES}}}]"
    assert "has no tokenizer" in refused(text, tmp_path)
    (folder / "tokenizer.json").write_text("{")
    assert "cannot be read" in refused(text, tmp_path)


def test_judges_share_the_engines_and_stand_in_for_nobody(tmp_path: Path) -> None:
    for name in ("logic", "units"):
        model_folder(tmp_path, name, {})
    experts, judges = made(
        f"""
        vllm: {{stand_ins: true}}
        experts:
        - {{kind: vllm, name: it, folder: logic, {PRICES}}}
        - {{kind: vllm, name: twin, folder: logic, {PRICES}}}
        judges: [{{kind: vllm, name: strict, folder: units, {PRICES}}}]
        """,
        tmp_path,
        make_experts_and_judges,
    )
    assert (list(experts), list(judges)) == (["it", "twin"], ["strict"])
    assert judges["strict"].fleet is experts["it"].fleet
    assert set(judges["strict"].fleet.models) == {"it", "twin", "strict"}
    assert experts["it"].stand_ins == {"twin"}
    assert experts["it"].fleet.policy.load_usd_per_s == 2.5e-5


def test_a_judge_on_the_engines_answers_beside_the_experts(tmp_path: Path) -> None:
    for name in ("logic", "units"):
        model_folder(tmp_path, name, {"Who are you?": f"I am {name}"})
    (tmp_path / "faults").mkdir()
    python = tmp_path / "python"  # with a program that speaks as a vLLM does
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -E -S {PROGRAM} "$@"\n')
    python.chmod(0o755)
    experts, judges = made(
        f"""
        vllm: {{python: {python}, env: {{SCRIPTED_FAULTS: {tmp_path / "faults"}}}}}
        experts: [{{kind: vllm, name: it, folder: logic, {PRICES}}}]
        judges: [{{kind: vllm, name: strict, folder: units, {PRICES}}}]
        """,
        tmp_path,
        make_experts_and_judges,
    )
    fleet = experts["it"].fleet

    async def asked() -> list[list[Completion]]:
        calls = ((experts["it"], ask("it")), (judges["strict"], ask("strict", purpose="judge")))
        return await asyncio.gather(*(expert.complete([call]) for expert, call in calls))

    try:
        assert [c.text for [c] in asyncio.run(asked())] == ["I am logic", "I am units"]
        assert len(fleet.slots) == 1
    finally:
        fleet.close()


def test_only_the_bounded_policy_takes_stand_ins(tmp_path: Path) -> None:
    said = refused("vllm: {policy: coserve, stand_ins: true}", tmp_path)
    assert "`stand_ins` is for `policy: bounded` only" in said
