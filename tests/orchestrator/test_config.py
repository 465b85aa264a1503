"""Configuration: every key is known, and a wrong one is met with the nearest right one."""

from __future__ import annotations

from pathlib import Path

import pytest

from experts.errors import ConfigError
from orchestrator.cli.init import TEMPLATE
from orchestrator.config import (
    BundledExperts,
    Config,
    LimitSettings,
    LocalExpertSettings,
    PolicySettings,
    PriceSettings,
    ServerSettings,
    load_config,
)
from orchestrator.pool import make_experts


def write(text: str, tmp_path: Path) -> Path:
    path = tmp_path / "conclave.yaml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold(data_dir: Path) -> None:
    assert load_config().ledger_path == data_dir / "ledger.sqlite"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("embeder: minilm", "unknown key 'embeder'. Did you mean 'embedder'?"),
        ("server: {prot: 1}", "Did you mean 'port'?"),
        ("limits: {max_call: 1}", "Did you mean 'max_calls'?"),
        ("policies: {mine: {fallback_price: 1}}", "Did you mean 'fallback_price_usd'?"),
        ("experts: [{kind: bundled, nmes: [words]}]", "Did you mean 'names'?"),
        ("experts: [{kind: local, name: a, folder: x}]", "prices: Field required"),
        ("experts: [{kind: bundeld}]", "'bundled', 'local'"),
        ("host_usd_per_s: -1", "greater than or equal to 0"),
        ("policies: {free: {fallback_price_usd: 0}}", "greater than 0"),
        ("[1, 2]", "holds list"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_the_way_out(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(write(text, tmp_path))
    assert complaint in str(error.value)


def test_a_taxonomy_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file"):
        load_config(write("taxonomy: nofile.json", tmp_path))


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="conclave init"):
        load_config(tmp_path / "nowhere.yaml")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = "data_dir: here\ntaxonomy: t.json\nembedder: ./my-model"
    (tmp_path / "t.json").touch()
    config = load_config(write(text, tmp_path))
    assert config.data_dir == tmp_path / "here"
    assert config.taxonomy == tmp_path / "t.json"
    assert config.embedder == str(tmp_path / "my-model")


def test_the_template_shows_the_defaults(tmp_path: Path) -> None:
    shown = load_config(write(TEMPLATE, tmp_path))
    assert shown.model_dump(exclude={"policies"}) == Config().model_dump(exclude={"policies"})
    assert shown.all_policies == Config().all_policies


def test_the_template_mentions_every_setting() -> None:
    models = (Config, LimitSettings, ServerSettings, PriceSettings, LocalExpertSettings)
    for model in (*models, BundledExperts, PolicySettings):
        for key in model.model_fields:
            assert f"{key}:" in TEMPLATE, key


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("experts: []", "is empty"),
        ("experts: [{kind: bundled, names: [wrods]}]", "Did you mean 'words'"),
        ("experts: [{kind: bundled}, {kind: bundled}]", "Two experts are called"),
        ("policies: {words: {fallback_price_usd: 1}}", "name of an expert and of a policy"),
        (
            "experts: [{kind: local, name: a, folder: none, "
            "prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}]",
            "has no config.json",
        ),
    ],
)
def test_a_pool_that_cannot_be_made_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(Exception, match=complaint):
        make_experts(load_config(write(text, tmp_path)))


def test_pickled_weights_are_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 8}')
    (folder / "pytorch_model.bin").write_bytes(b"")
    text = (
        "experts: [{kind: local, name: a, folder: model, "
        "prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}]"
    )
    with pytest.raises(ConfigError, match=r"holds no \*.safetensors"):
        make_experts(load_config(write(text, tmp_path)))
