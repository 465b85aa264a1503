"""Experts on engines, from the configuration; on scripted engines where any is needed."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from experts.bundled import FOLDER, bundled_cards
from experts.errors import ConfigError, DoesNotFit
from orchestrator.config import load_config
from orchestrator.pool import make_experts, make_experts_and_judges
from tests.engines import adapter_folder, model_folder

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
    assert "Did you mean 'slots'?" in refused("vllm: {slot: []}", tmp_path)
    assert "Did you mean 'memory_gb'?" in refused("vllm: {slots: [{memory: 1}]}", tmp_path)
    assert "Did you mean 'folder'?" in refused(
        f"experts: [{{kind: vllm, name: it, folde: x, {PRICES}}}]", tmp_path
    )
    with pytest.raises(DoesNotFit, match="largest slot has"):
        made(f"vllm: {{slots: [{{memory_gb: 0.0001}}]}}\nexperts: [{it}]", tmp_path)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    assert "is not a safetensors file" in refused(f"experts: [{it}]", tmp_path)


def test_the_python_that_make_vllm_installs_is_found_beside_the_file(tmp_path: Path) -> None:
    python = tmp_path / ".venv-vllm" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(FOLDER)
    (tmp_path / "conclave.yaml").write_text("{}")
    assert load_config(tmp_path / "conclave.yaml").vllm.python == python
