"""All that can be set, with its defaults: without a file they run the bundled experts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, model_validator

from experts.errors import ConfigError, did_you_mean
from experts.modes import Mode, shipped_modes
from orchestrator.config.engines import VLLMSettings
from orchestrator.config.experts import (
    BundledExperts,
    ExpertSettings,
    LatentExpertSettings,
    LocalExpertSettings,
    ModeName,
    RemoteSettings,
    VLLMExpertSettings,
)
from orchestrator.config.fields import Strict
from orchestrator.config.policies import DEFAULT_POLICIES, LimitSettings, PolicySettings
from orchestrator.config.sections import (
    ExplorationSettings,
    KeywordSettings,
    LearningSettings,
    RunSettings,
    ServerSettings,
)
from skills.annotators import KEYWORDS, AnnotatorKind

HOST_USD_PER_S = 2.5e-5
"""A second of a two-core cloud machine at about $0.09 an hour (AWS c7i.large on demand, us-east-1,
2025, $0.0892/h): what the router's own computing and loading a local model are charged."""


class Config(Strict):
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
    annotator: AnnotatorKind = "neighbours"
    """Who says which skills a question needs: the nearest questions of known skill, the nearest
    sentence of the taxonomy, a classifier trained on questions of known skill, or an LLM's
    keywords (section ``keywords``). docs/skills.md compares them."""
    keywords: KeywordSettings | None = None
    experts: list[ExpertSettings] = [BundledExperts(kind="bundled")]
    judges: list[ExpertSettings] = []
    """Experts that only grade: recorded answers are put to them, questions never."""
    modes: dict[ModeName, str] = {}
    """Added to the shipped modes (experts/modes.json), or replacing them by name: what each adds to
    the prompt."""
    policies: dict[str, PolicySettings] = {}
    """Added to the built-in ones (conclave, best, cheap), or replacing them by name."""
    host_usd_per_s: float = Field(default=HOST_USD_PER_S, ge=0, allow_inf_nan=False)
    limits: LimitSettings = LimitSettings()
    learning: LearningSettings = LearningSettings()
    exploration: ExplorationSettings = ExplorationSettings()
    runs: RunSettings = RunSettings()
    server: ServerSettings = ServerSettings()
    vllm: VLLMSettings = VLLMSettings()

    @model_validator(mode="after")
    def _keywords_have_a_source(self) -> Config:
        if (self.annotator == KEYWORDS) != (self.keywords is not None):
            raise ValueError(
                "`annotator: keywords` and the section `keywords:` go together. "
                + (
                    f"Take the section out, or write `annotator: {KEYWORDS}`."
                    if self.keywords
                    else "Say who is asked, e.g. `keywords: {expert: NAME}`."
                )
            )
        return self

    @property
    def ledger_path(self) -> Path:
        return self.data_dir / "ledger.sqlite"

    @property
    def desk_path(self) -> Path:
        """Questions to people."""
        return self.data_dir / "people.sqlite"

    @property
    def keys_path(self) -> Path:
        return self.data_dir / "keys.sqlite"

    @property
    def runs_dir(self) -> Path:
        return self.data_dir / "runs"

    @property
    def all_modes(self) -> Mapping[str, Mode]:
        return {**shipped_modes(), **{name: Mode(name, told) for name, told in self.modes.items()}}

    def modes_of(
        self,
        expert: LocalExpertSettings | LatentExpertSettings | VLLMExpertSettings | RemoteSettings,
    ) -> tuple[Mode, ...]:
        """Raises ConfigError, with the nearest names, for a mode that there is not."""
        known = self.all_modes
        for name in expert.modes:
            if name not in known:
                raise ConfigError(
                    f"Expert {expert.name!r}: there is no mode {name!r}.{did_you_mean(name, known)}"
                    f" Known: {', '.join(known)}. Write others under `modes:`."
                )
        return tuple(known[name] for name in dict.fromkeys(expert.modes))

    @property
    def all_policies(self) -> dict[str, PolicySettings]:
        return {**DEFAULT_POLICIES, **self.policies}
