"""Configuration: every key is known, and a wrong one is met with the nearest right one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from experts.errors import ConfigError
from orchestrator.cli.init import TEMPLATE
from orchestrator.config import (
    UNFILLED,
    BundledExperts,
    BundledToolSettings,
    Config,
    ExplorationSettings,
    HumanExpertSettings,
    KeywordSettings,
    LearningSettings,
    LimitSettings,
    LiteLLMExpertSettings,
    LocalExpertSettings,
    MCPServerSettings,
    OpenAIExpertSettings,
    PolicySettings,
    RemotePriceSettings,
    RunSettings,
    ServerSettings,
    SlotSection,
    VLLMExpertSettings,
    VLLMSettings,
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
        ("annotator: neighbors", "'neighbours', 'descriptors', 'classifier' or 'keywords'"),
        ("annotator: keywords", "Say who is asked, e.g. `keywords: {expert: NAME}`"),
        ("keywords: {expert: words}", "Take the section out, or write `annotator: keywords`"),
        ("annotator: keywords\nkeywords: {exprt: words}", "Did you mean 'expert'?"),
        ("annotator: keywords\nkeywords: {expert: words, passes: 0}", "greater than or equal to 1"),
        ("experts: [{kind: vlm, name: a}]", "no kind 'vlm'. Did you mean 'vllm'?"),
        ("experts: [{name: a}]", "begin it with its kind"),
        ("vllm: 5", "keys and values are needed"),
        ("vllm: {memory_gb: 20}", "belongs to one of the `slots:`"),
        ("vllm: {slots: [{sleep_level: 1}]}", "belongs under `vllm:`"),
        ("vllm: {slots: []}", "at least 1 is needed"),
        ("vllm: {slots: {memory_gb: 20}}", "lines that begin with `- `"),
        ("vllm: {slots: [{memory_gb: 80GB}]}", "a number is needed, without a unit"),
        ("vllm: {slots: [{memory_gb: -1}]}", "greater than 0"),
        ("vllm: {env: {A: true}}", "put it in quotes"),
        ("vllm: {args: --dtype float32}", "a list is needed: [--dtype, float32]"),
        ("vllm: {args: [--dtype float32]}", "is 2 words: write [--dtype, float32]"),
        ("vllm: {args: [--port, 8000]}", "Conclave sets it itself"),
        ("vllm: {args: [--max_model_len=4096]}", "set `context_tokens` of the expert"),
        ("vllm: {args: [--api-key, x]}", "`kind: openai`"),
        ("vllm: {args: [--api_k=x]}", "--api_k may be read as --api-key"),
        ("vllm: {slots: [{args: [--mode, x]}]}", "--mode may be read as --model"),
        ("vllm: {args: [--max-loras, 2]}", "Conclave sets it itself"),
        ("vllm: {args: [--config, x.yaml]}", "write its arguments here"),
        ("vllm: {env: {VLLM_SERVER_DEV_MODE: 0}}", "VLLM_SERVER_DEV_MODE must be 1"),
        ("vllm: {slots: [{env: {VLLM_API_KEY: x}}]}", "engines are asked without a key"),
        ("vllm: {max_wait_s: 10, policy: coserve}", "`max_wait_s` is for `policy: bounded` only"),
        ("experts: [{kind: vllm, base_url: 'http://x/v1'}]", "is `kind: openai`"),
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


def test_arguments_that_only_look_like_those_of_conclave_may_be_given(tmp_path: Path) -> None:
    args = ["--model-impl", "vllm", "--dtype", "half", "--seed", "-1", "-O3"]
    text = f"vllm: {{args: {args}, env: {{VLLM_SERVER_DEV_MODE: 1}}}}"
    assert load_config(write(text, tmp_path)).vllm.args == args


def test_numbers_on_a_command_line_are_words(tmp_path: Path) -> None:
    vllm = load_config(
        write(
            "vllm: {args: [--gpu-memory-utilization, 0.45], "
            "slots: [{env: {CUDA_VISIBLE_DEVICES: 0}}]}",
            tmp_path,
        )
    ).vllm
    assert vllm.args == ["--gpu-memory-utilization", "0.45"]
    assert vllm.slots[0].env == {"CUDA_VISIBLE_DEVICES": "0"}


def test_a_section_without_a_line_says_nothing(tmp_path: Path) -> None:
    assert load_config(write("vllm:\nlimits:\n", tmp_path)).vllm == VLLMSettings()
    with pytest.raises(ConfigError, match="experts: a list is needed"):
        load_config(write("experts:\n", tmp_path))


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
    models = (
        Config,
        KeywordSettings,
        LimitSettings,
        ServerSettings,
        RemotePriceSettings,
        LocalExpertSettings,
    )
    remote = (OpenAIExpertSettings, LiteLLMExpertSettings)
    on_vllm = (VLLMExpertSettings, VLLMSettings, SlotSection)
    tools = (MCPServerSettings, BundledToolSettings)
    people = (HumanExpertSettings, RunSettings)
    learns = (LearningSettings, ExplorationSettings)
    more = (*tools, *people, *learns, BundledExperts, PolicySettings)
    for model in (*models, *remote, *on_vllm, *more):
        for key in model.model_fields:
            assert f"{key}:" in TEMPLATE, key


@pytest.mark.parametrize("model", [LocalExpertSettings, VLLMExpertSettings])
def test_the_template_mentions_every_setting_where_it_belongs(model: type[BaseModel]) -> None:
    [kind] = get_args(model.model_fields["kind"].annotation)
    [block] = re.findall(rf"# - kind: {kind}\b.*?(?=# - kind:)", TEMPLATE, re.S)
    for key in model.model_fields:
        assert f"{key}:" in block, key


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


REMOTE = """
experts:
  - kind: openai
    name: far
    base_url: http://localhost:9/v1
    model: m
    {more}
    prices: {{input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
"""


def test_a_remote_expert_is_made_and_its_weights_are_told_apart(tmp_path: Path) -> None:
    def version(more: str) -> str:
        [expert] = make_experts(load_config(write(REMOTE.format(more=more), tmp_path))).values()
        assert expert.card.prices.output_usd_per_mtok == 2
        return expert.card.version

    plain = version("")
    assert plain == version("max_concurrent: 2")
    assert len({plain, version("extra_body: {n: 1}"), version("version: two")}) == 3


def test_the_price_of_cached_input_is_for_servers_and_not_above_that_of_other_input(
    tmp_path: Path,
) -> None:
    def prices(kind: str, cached: float) -> str:
        told = f"input_usd_per_mtok: 1, output_usd_per_mtok: 2, cached_input_usd_per_mtok: {cached}"
        where = "folder: x" if kind == "local" else "base_url: http://localhost:9/v1, model: m"
        return f"experts: [{{kind: {kind}, name: a, {where}, prices: {{{told}}}}}]"

    [expert] = make_experts(load_config(write(prices("openai", 0.1), tmp_path))).values()
    assert expert.card.prices.cached_input_usd_per_mtok == 0.1
    with pytest.raises(ConfigError, match="more than the 1 of other input"):
        load_config(write(prices("openai", 1.5), tmp_path))
    with pytest.raises(ConfigError, match="unknown key"):
        load_config(write(prices("local", 0.1), tmp_path))


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("api_key_env: NO_SUCH_KEY", "NO_SUCH_KEY, which is not set"),
        ("api_key: sk-verysecret", "line 7, unknown key .* Did you mean 'api_key_env'"),
        ("api_key_env: sk-verysecret", "NAME of an environment variable"),
        ("base_ulr: http://localhost", "line 7, unknown key"),
    ],
)
def test_a_remote_expert_is_checked_and_no_key_repeated(
    tmp_path: Path, more: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as refused:
        make_experts(load_config(write(REMOTE.format(more=more), tmp_path)))
    assert "verysecret" not in str(refused.value)


def test_an_unfilled_price_names_file_line_and_key(tmp_path: Path) -> None:
    text = REMOTE.format(more="").replace(
        "input_usd_per_mtok: 1", f"input_usd_per_mtok: {UNFILLED}"
    )
    with pytest.raises(ConfigError) as refused:
        load_config(write(text, tmp_path))
    told = str(refused.value)
    assert "conclave.yaml" in told
    assert "line 8, experts.0.openai.prices.input_usd_per_mtok: not filled in yet" in told


def test_a_missing_price_is_an_error(tmp_path: Path) -> None:
    text = "\n".join(REMOTE.format(more="").splitlines()[:-1])
    with pytest.raises(ConfigError, match=r"line 3, experts.0.openai.prices: Field required"):
        load_config(write(text, tmp_path))
