"""Configuration: ``conclave.yaml``, checked before anything is done.

Every key is known or refused with the nearest right one. Paths in the file are relative to it.
Without a file the defaults run the bundled experts.

In this room are the settings by section (``config`` has them all), ``file``, which reads them, and
``problems``, which says what is wrong with them. What is made of settings (experts, engines, tools)
is made elsewhere.
"""

from __future__ import annotations

from orchestrator.config.config import Config
from orchestrator.config.engines import LoRARank, SlotSection, VLLMSettings
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
    RemotePriceSettings,
    VLLMExpertSettings,
)
from orchestrator.config.file import load_config
from orchestrator.config.policies import DEFAULT_POLICIES, LimitSettings, PolicySettings
from orchestrator.config.problems import UNFILLED
from orchestrator.config.sections import (
    ExplorationSettings,
    KeywordSettings,
    LearningSettings,
    RunSettings,
    ServerSettings,
)
from orchestrator.config.tools import (
    BundledToolSettings,
    MCPServerSettings,
    ToolLimitSettings,
    ToolPriceSettings,
)

__all__ = [
    "DEFAULT_POLICIES",
    "UNFILLED",
    "BundledExperts",
    "BundledToolSettings",
    "Config",
    "ExpertSettings",
    "ExplorationSettings",
    "HumanExpertSettings",
    "KeywordSettings",
    "LatentEngineSettings",
    "LatentExpertSettings",
    "LatentMemberSettings",
    "LearningSettings",
    "LimitSettings",
    "LiteLLMExpertSettings",
    "LoRARank",
    "LocalExpertSettings",
    "MCPServerSettings",
    "OpenAIExpertSettings",
    "PolicySettings",
    "PriceSettings",
    "RemotePriceSettings",
    "RunSettings",
    "ServerSettings",
    "SlotSection",
    "ToolLimitSettings",
    "ToolPriceSettings",
    "VLLMExpertSettings",
    "VLLMSettings",
    "load_config",
]
