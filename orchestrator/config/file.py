"""``conclave.yaml``, read and checked before anything is done."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

from experts.errors import ConfigError
from orchestrator.config.config import Config
from orchestrator.config.engines import SlotSection, VLLMSettings
from orchestrator.config.experts import (
    BundledExperts,
    ExpertSettings,
    HumanExpertSettings,
    LatentEngineSettings,
    LatentExpertSettings,
    LatentMemberSettings,
    LiteLLMExpertSettings,
    LocalExpertSettings,
    OpenAIExpertSettings,
    PriceSettings,
    VLLMExpertSettings,
)
from orchestrator.config.policies import LimitSettings, PolicySettings
from orchestrator.config.problems import explain
from orchestrator.config.sections import (
    ExplorationSettings,
    KeywordSettings,
    LearningSettings,
    RunSettings,
    ServerSettings,
)
from orchestrator.config.tools import BundledToolSettings, MCPServerSettings, ToolLimitSettings

FILE_NAME = "conclave.yaml"
_MAY_BE_EMPTY = {
    "exploration",
    "judges",
    "keywords",
    "learning",
    "limits",
    "modes",
    "policies",
    "runs",
    "server",
    "vllm",
}


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

    def one_placed(expert: ExpertSettings) -> ExpertSettings:
        if isinstance(expert, LocalExpertSettings) and expert.scorer:
            expert = expert.model_copy(update={"scorer": placed(expert.scorer)})
        if isinstance(expert, LocalExpertSettings | VLLMExpertSettings):
            return expert.model_copy(update={"folder": placed(expert.folder)})
        if isinstance(expert, LatentExpertSettings) and expert.head:
            members = {
                name: m.model_copy(update={"folder": placed(m.folder)})
                for name, m in expert.members.items()
            }
            return expert.model_copy(update={"head": placed(expert.head), "members": members})
        return expert.placed(base) if isinstance(expert, MCPServerSettings) else expert

    def all_placed(experts: list[ExpertSettings]) -> list[ExpertSettings]:
        return [one_placed(expert) for expert in experts]

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
    "latent": LatentExpertSettings,
    "members": LatentMemberSettings,
    "engines": LatentEngineSettings,
    "openai": OpenAIExpertSettings,
    "litellm": LiteLLMExpertSettings,
    "mcp": MCPServerSettings,
    "tools": BundledToolSettings,
    "per_tool": ToolLimitSettings,
    "human": HumanExpertSettings,
    "prices": PriceSettings,
    "policies": PolicySettings,
    "limits": LimitSettings,
    "runs": RunSettings,
    "keywords": KeywordSettings,
    "learning": LearningSettings,
    "exploration": ExplorationSettings,
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
