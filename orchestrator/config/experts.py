"""What the configuration says about experts: the sections ``experts`` and ``judges``.

Tools are experts, too; theirs are in ``tools``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from experts.tool_formats import ToolFormat
from orchestrator.config.engine_arguments import Arguments
from orchestrator.config.fields import ExpertName, Strict, VariableName
from orchestrator.config.tools import BundledToolSettings, MCPServerSettings

ModeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Modes = Annotated[list[ModeName], Field(min_length=1)]
"""Ways of asking an expert, each an arm of its own: direct, instant, reason, program, ranked, and
what the section ``modes`` adds."""


Device = Annotated[str, Field(pattern=r"^(cpu|mps|cuda(:\d+)?)$")]
"""Of PyTorch: cpu, cuda, cuda:1, mps."""


class PriceSettings(Strict):
    """Dollars per million tokens. There is no default: an unknown price is an error."""

    input_usd_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    output_usd_per_mtok: float = Field(ge=0, allow_inf_nan=False)


class RemotePriceSettings(PriceSettings):
    """Of a server that may charge less for input that it still has from calls before."""

    cached_input_usd_per_mtok: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """For the input that it says it had in its cache. None where it is not known: nothing is taken
    as cheaper then."""

    @model_validator(mode="after")
    def _is_no_dearer(self) -> RemotePriceSettings:
        cached = self.cached_input_usd_per_mtok
        if cached is not None and cached > self.input_usd_per_mtok:
            raise ValueError(
                f"`cached_input_usd_per_mtok` is {cached:g}, more than the "
                f"{self.input_usd_per_mtok:g} of other input. Leave it out where it is not known."
            )
        return self


class BundledExperts(Strict):
    """All of the bundled experts, or some."""

    kind: Literal["bundled"]
    names: list[str] | None = None
    runs_on: Literal["process", "vllm"] = "process"
    """In this process, or on the slots of the section ``vllm``."""


class LocalExpertSettings(Strict):
    """A Hugging Face causal LM in a folder, run in this process."""

    kind: Literal["local"]
    name: ExpertName
    folder: Path
    description: str = ""
    modes: Modes = ["direct"]
    prices: PriceSettings
    context_tokens: int | None = Field(default=None, ge=8)
    """None takes it from the model's config."""
    device: Device = "cpu"
    """cpu or cuda."""
    tool_format: ToolFormat | Literal["none"] | None = None
    """How the model writes tool calls: hermes, json, or none for one that is given no tools. Left
    out, what its chat template tells."""
    scorer: Path | None = None
    """Folder of a trained scorer (`conclave latent scorer`): each answer then comes with how likely
    it is right, by the model's own states, and cascades, votes and compositions learn to use it."""


class LatentMemberSettings(Strict):
    """One of the models that answer as one."""

    folder: Path
    prices: PriceSettings


class LatentEngineSettings(Strict):
    """Where one of them runs: vLLM servers that somebody else starts (docs/latent.md)."""

    model: str = Field(min_length=1)
    """The servers' name for it."""
    pooling: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")
    """URL, without /v1, of the one that gives its states; needed where it is asked as a peer."""
    completions: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")
    """URL, without /v1, of the one that takes prompt embeddings; needed where it speaks."""

    @model_validator(mode="after")
    def _runs_somewhere(self) -> LatentEngineSettings:
        if self.pooling is None and self.completions is None:
            raise ValueError("give `pooling`, `completions`, or both: without, nobody is asked.")
        return self


class LatentExpertSettings(Strict):
    """Several Hugging Face causal LMs that answer as one (docs/latent.md): in this process, or on
    engines."""

    kind: Literal["latent"]
    name: ExpertName
    head: Path | None = None
    """Folder of a trained head (`conclave latent train`). None is the bundled one, with its three
    members."""
    members: dict[str, LatentMemberSettings] = {}
    """Of a head that is named, by the names in its card."""
    description: str = ""
    modes: Modes = ["direct"]
    device: Device = "cpu"
    """cpu or cuda, in this process."""
    engines: dict[str, LatentEngineSettings] = {}
    """By member; none: they run in this process."""
    prices: PriceSettings | None = None
    """On engines: of what all members read and one says, together."""

    @model_validator(mode="after")
    def _prices_its_engines(self) -> LatentExpertSettings:
        if bool(self.engines) != (self.prices is not None):
            raise ValueError(
                "`engines` and `prices` go together: what runs elsewhere has a price of its own; "
                "in this process each member has one."
            )
        return self

    @model_validator(mode="after")
    def _names_its_members(self) -> LatentExpertSettings:
        if self.head and not self.members:
            raise ValueError(
                "a head needs its `members`: for each name in its head.json the model's `folder` "
                "and `prices`."
            )
        if self.members and not self.head:
            raise ValueError("`members` belong to a `head`; name its folder, too.")
        if self.head is None and not self.engines and self.modes != ["direct"]:
            raise ValueError("`modes` need a `head` of models that know them; the bundled do not.")
        return self


class RemoteSettings(Strict):
    """Of a model behind somebody else's API."""

    name: ExpertName
    description: str = ""
    modes: Modes = ["direct"]
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


class OpenAIExpertSettings(RemoteSettings):
    """A model of any server that speaks OpenAI's protocol: vLLM, another Conclave, ..."""

    kind: Literal["openai"]
    base_url: str = Field(pattern=r"^https?://[^\s@]+$")
    """Up to and with /v1."""
    prices: RemotePriceSettings


class LiteLLMExpertSettings(RemoteSettings):
    """A model by its LiteLLM id."""

    kind: Literal["litellm"]
    api_base: str | None = Field(default=None, pattern=r"^https?://[^\s@]+$")
    prices: RemotePriceSettings | None = None
    """None takes them from the table of the installed LiteLLM; unknown there is an error."""


class VLLMExpertSettings(Strict):
    """A Hugging Face causal LM, or a LoRA adapter, in a folder; served by vLLM, which is started
    when it is needed (section ``vllm``). A server that somebody else starts is ``openai``."""

    kind: Literal["vllm"]
    name: ExpertName
    folder: Path
    base: ExpertName | None = None
    """For an adapter: the expert that it sits on."""
    description: str = ""
    modes: Modes = ["direct"]
    prices: PriceSettings
    context_tokens: int | None = Field(default=None, ge=8)
    """None takes it from the model's config, or the base's."""
    args: Arguments = []
    """Added to the engine's command line for this model, e.g. [--quantization, awq]."""
    guided: bool = True
    """Its engine keeps the tokenizer, which guided output (response_format, ...) needs. Then
    weights are replaced in place only by those of a model with an equal tokenizer; false lets one
    engine be all models of an architecture. An adapter is guided where its base is."""
    tool_format: ToolFormat | Literal["none"] | None = None
    """As of a local model."""


class HumanExpertSettings(Strict):
    """A person: questions wait (`conclave human list`) until somebody answers."""

    kind: Literal["human"]
    name: ExpertName
    description: str = ""
    call_usd: float = Field(ge=0, allow_inf_nan=False)
    """Dollars that an answer costs; 0 only if it is really free. No answer costs nothing."""
    deadline_s: float = Field(default=86_400, gt=0, allow_inf_nan=False)
    """For an answer, from asking on. A question that somebody waits for is given up at the limit
    `timeout_s`, too; a durable run's (conclave runs) is not."""
    instructions: str = Field(default="", max_length=10_000)
    """Shown to whoever answers."""


ExpertSettings = Annotated[
    BundledExperts
    | LocalExpertSettings
    | LatentExpertSettings
    | VLLMExpertSettings
    | OpenAIExpertSettings
    | LiteLLMExpertSettings
    | MCPServerSettings
    | BundledToolSettings
    | HumanExpertSettings,
    Field(discriminator="kind"),
]
