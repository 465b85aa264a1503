"""Configuration: ``conclave.yaml``, checked before anything is done.

Every key is known or refused with the nearest right one. Paths in the file are relative to it.
Without a file the defaults run the bundled experts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from experts.errors import ConfigError
from orchestrator.config_problems import explain
from orchestrator.engine_arguments import check_engine_arguments

FILE_NAME = "conclave.yaml"
HOST_USD_PER_S = 2.5e-5
"""A second of a two-core cloud machine at about $0.09 an hour (AWS c7i.large on demand, us-east-1,
2025, $0.0892/h): what the router's own computing and loading a local model are charged."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PriceSettings(_Strict):
    """Dollars per million tokens. There is no default: an unknown price is an error."""

    input_usd_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    output_usd_per_mtok: float = Field(ge=0, allow_inf_nan=False)


ExpertName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
"""Of an environment variable. A key that was pasted here by mistake rarely looks like one, and is
not repeated in the error."""


def _as_written(value: object) -> object:
    """YAML makes a number of what is a word of a command line."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


Word = Annotated[str, BeforeValidator(_as_written)]
Arguments = Annotated[list[Word], AfterValidator(check_engine_arguments)]
"""Of an engine's command line, one word an item."""


LoRARank = Literal[8, 16, 32, 64, 128, 256, 320, 512]
"""That vLLM takes as the largest."""


class BundledExperts(_Strict):
    """All of the bundled experts, or some."""

    kind: Literal["bundled"]
    names: list[str] | None = None
    runs_on: Literal["process", "vllm"] = "process"
    """In this process, or on the slots of the section ``vllm``."""


class LocalExpertSettings(_Strict):
    """A Hugging Face causal LM in a folder, run in this process."""

    kind: Literal["local"]
    name: ExpertName
    folder: Path
    description: str = ""
    prices: PriceSettings
    context_tokens: int | None = Field(default=None, ge=8)
    """None takes it from the model's config."""
    device: str = "cpu"
    """cpu or cuda."""


class _RemoteSettings(_Strict):
    name: ExpertName
    description: str = ""
    model: str = Field(min_length=1)
    """The provider's name for it."""
    api_key_env: VariableName | None = None
    """Name of the environment variable that holds the key; keys are never written in the file."""
    context_tokens: int | None = Field(default=None, ge=8)
    """Bounds what a call can cost; None is what is known of the model, or 128k."""
    max_concurrent: int = Field(default=16, ge=1, le=1024)
    """Requests at a time."""
    timeout_s: float = Field(default=600, gt=0, allow_inf_nan=False)
    """Of one attempt, where a call brings no limit of its own."""
    extra_body: dict[str, Any] = {}
    """Fields to add to every request; null leaves one out."""
    version: str = ""
    """Change it when the weights behind the name change: nobody tells us, and what was recorded of
    the old ones says nothing of the new."""


class OpenAIExpertSettings(_RemoteSettings):
    """A model of any server that speaks OpenAI's protocol: vLLM, another Conclave, ..."""

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://[^\s@]+$")
    """Up to and with /v1."""
    prices: PriceSettings


class LiteLLMExpertSettings(_RemoteSettings):
    """A model by its LiteLLM id."""

    kind: Literal["litellm"]
    api_base: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")
    prices: PriceSettings | None = None
    """None takes them from the table of the installed LiteLLM; unknown there is an error."""


class VLLMExpertSettings(_Strict):
    """A Hugging Face causal LM, or a LoRA adapter, in a folder; served by vLLM, which is started
    when it is needed (section ``vllm``). A server that somebody else starts is ``openai``."""

    kind: Literal["vllm"]
    name: ExpertName
    folder: Path
    base: ExpertName | None = None
    """For an adapter: the expert that it sits on."""
    description: str = ""
    prices: PriceSettings
    context_tokens: int | None = Field(default=None, ge=8)
    """None takes it from the model's config, or the base's."""
    args: Arguments = []
    """Added to the engine's command line for this model, e.g. [--quantization, awq]."""
    guided: bool = True
    """Its engine keeps the tokenizer, which guided output (response_format, ...) needs. Then
    weights are replaced in place only by those of a model with an equal tokenizer; false lets one
    engine be all models of an architecture. An adapter is guided where its base is."""


ExpertSettings = Annotated[
    BundledExperts
    | LocalExpertSettings
    | VLLMExpertSettings
    | OpenAIExpertSettings
    | LiteLLMExpertSettings,
    Field(discriminator="kind"),
]


class SlotSection(_Strict):
    """A place for one engine at a time: a GPU, or a share of one."""

    memory_gb: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """For weights, in 10^9 bytes; what the engine needs for keys and values is not in it."""
    concurrency: int = Field(default=64, ge=1)
    """Calls that an engine is given at once."""
    env: dict[str, Word] = {}
    """E.g. CUDA_VISIBLE_DEVICES."""
    args: Arguments = []
    """Added to the command line of this slot's engines."""


class VLLMSettings(_Strict):
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
    env: dict[str, Word] = {}
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


class PolicySettings(_Strict):
    """A named way to weigh dollars against failures."""

    fallback_price_usd: float = Field(gt=0, allow_inf_nan=False)


class LimitSettings(_Strict):
    """Upper bounds for every question; a request may ask for less, never for more."""

    max_cost_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_calls: int | None = Field(default=16, ge=1)
    timeout_s: float | None = Field(default=60, gt=0, allow_inf_nan=False)
    """For each call."""
    max_tokens: int = Field(default=96, ge=1)
    """Of each answer; also the default."""


class ServerSettings(_Strict):
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    max_body_bytes: int = Field(default=1_000_000, ge=1000)


DEFAULT_POLICIES = {
    "conclave": PolicySettings(fallback_price_usd=1e-3),
    "best": PolicySettings(fallback_price_usd=1e-1),
    "cheap": PolicySettings(fallback_price_usd=1e-5),
}


class Config(_Strict):
    """Everything that can be set."""

    data_dir: Path = Field(
        default_factory=lambda: Path(os.environ.get("CONCLAVE_HOME") or "~/.conclave").expanduser()
    )
    """Where the ledger and fitted state live."""
    embedder: str = "minilm"
    shortcut: bool = True
    """Questions whose words alone settle the skill are not embedded."""
    taxonomy: Path | None = None
    """None is the shipped one."""
    experts: list[ExpertSettings] = [BundledExperts(kind="bundled")]
    judges: list[ExpertSettings] = []
    """Experts that only grade: recorded answers are put to them, questions never."""
    policies: dict[str, PolicySettings] = {}
    """Added to the built-in ones (conclave, best, cheap), or replacing them by name."""
    host_usd_per_s: float = Field(default=HOST_USD_PER_S, ge=0, allow_inf_nan=False)
    limits: LimitSettings = LimitSettings()
    server: ServerSettings = ServerSettings()
    vllm: VLLMSettings = VLLMSettings()

    @property
    def ledger_path(self) -> Path:
        return self.data_dir / "ledger.sqlite"

    @property
    def fitted_dir(self) -> Path:
        return self.data_dir / "fitted"

    @property
    def all_policies(self) -> dict[str, PolicySettings]:
        return {**DEFAULT_POLICIES, **self.policies}


_MAY_BE_EMPTY = {"judges", "limits", "policies", "server", "vllm"}


def load_config(path: Path | None = None) -> Config:
    """Read ``path``, or ``conclave.yaml`` in the working folder, or take the defaults.

    Raises ConfigError that names the key and the nearest right one.
    """
    if path is None:
        path = Path(FILE_NAME)
        if not path.exists():
            return Config()
    try:
        text = path.read_text(encoding="utf-8")
        raw = yaml.safe_load(text) or {}
    except FileNotFoundError:
        raise ConfigError(f"There is no {path}. Write one with: conclave init") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}, not keys and values.")
    # A section of which everything is commented out says nothing. Not so `experts`: no experts
    # should not become the bundled ones.
    raw = {k: v for k, v in raw.items() if v is not None or k not in _MAY_BE_EMPTY}
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}:\n{explain(error, text, _keys_at)}") from None
    config = _with_paths_from(config, path.parent)
    if config.taxonomy and not config.taxonomy.is_file():
        raise ConfigError(f"{path}: taxonomy: there is no file {config.taxonomy}.")
    return config


def _with_paths_from(config: Config, base: Path) -> Config:
    def placed(path: Path) -> Path:
        path = path.expanduser()
        return path if path.is_absolute() else base / path

    def all_placed(experts: list[ExpertSettings]) -> list[ExpertSettings]:
        return [
            e.model_copy(update={"folder": placed(e.folder)})
            if isinstance(e, LocalExpertSettings | VLLMExpertSettings)
            else e
            for e in experts
        ]

    return config.model_copy(
        update={
            "data_dir": placed(config.data_dir),
            "taxonomy": placed(config.taxonomy) if config.taxonomy else None,
            "embedder": _embedder_from(config.embedder, base),
            "experts": all_placed(config.experts),
            "judges": all_placed(config.judges),
            "vllm": config.vllm.model_copy(update={"python": _vllm_python(config.vllm, base)}),
        }
    )


def _vllm_python(settings: VLLMSettings, base: Path) -> Path | None:
    if settings.python is None:
        usual = base / ".venv-vllm" / "bin" / "python"
        return usual.absolute() if usual.exists() else None
    path = settings.python.expanduser()
    # A bare name is looked for on the PATH. Never resolved: a virtual environment is its link.
    return path if path.is_absolute() or len(path.parts) == 1 else (base / path).absolute()


def _embedder_from(embedder: str, base: Path) -> str:
    """A folder is relative to the file; anything else is a name or a hub's id, left as it is."""
    path = Path(embedder).expanduser()
    looks_like_a_path = embedder.startswith((".", "~", "/"))
    if not looks_like_a_path or path.is_absolute():
        return str(path) if looks_like_a_path else embedder
    return str((base / path).resolve())


_SECTIONS: dict[str, type[BaseModel]] = {
    "bundled": BundledExperts,
    "local": LocalExpertSettings,
    "openai": OpenAIExpertSettings,
    "litellm": LiteLLMExpertSettings,
    "prices": PriceSettings,
    "policies": PolicySettings,
    "limits": LimitSettings,
    "server": ServerSettings,
    "slots": SlotSection,
}


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the section that ``location`` points into."""
    # The name of a section, and of a kind of experts.
    on_vllm = VLLMSettings if location[0] == "vllm" else VLLMExpertSettings
    sections = {**_SECTIONS, "vllm": on_vllm}
    model: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, str):
            model = sections.get(part, model)
    return list(model.model_fields)
