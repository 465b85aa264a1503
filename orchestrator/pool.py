"""From configuration to experts: the one place that knows how each kind is made."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from experts.bundled import bundled_experts
from experts.cards import OPENAI_EXTRA, STATED, TOOL_EXTRA, ExpertCard, Prices
from experts.errors import BadHead, ConfigError, UnknownPrice
from experts.expert import Expert
from experts.human.desk import Desk
from experts.human.expert import CONTEXT_TOKENS, HumanExpert
from experts.latent.expert import (
    bundled_latent_expert,
    latent_expert,
    latent_expert_on_engines,
)
from experts.latent.wire import EngineUrls
from experts.local.expert import LocalExpert
from experts.local.fingerprint import weights_fingerprint
from experts.remote.expert import RemoteExpert
from experts.remote.litellm_prices import listed
from experts.remote.litellm_wire import INSTALL, LiteLLMWire
from experts.remote.openai_wire import OpenAIWire
from experts.remote.wire import Wire
from experts.scoring.card import read_scorer_card
from experts.tool_formats import chosen_format
from orchestrator.config import (
    BundledExperts,
    Config,
    ExpertSettings,
    HumanExpertSettings,
    LatentExpertSettings,
    LiteLLMExpertSettings,
    LocalExpertSettings,
    OpenAIExpertSettings,
    PriceSettings,
    RemotePriceSettings,
)
from orchestrator.tool_pool import Found, is_tools, tools_of
from orchestrator.vllm_pool import experts_on_vllm, is_on_vllm

DEFAULT_CONTEXT_TOKENS = 131_072
"""Of a remote model of which nothing is known: rather too much, since it bounds what a call can
cost."""


def make_experts(config: Config) -> dict[str, Expert]:
    """Experts by name, in the configuration's order. Nothing is loaded, and nobody is asked but
    tool servers that were never asked what they have.

    Raises ConfigError when two have one name, a folder is not a model, or a key's environment
    variable is not set; UnknownPrice where LiteLLM knows no price.
    """
    return _made(config, config.experts)[0]


def make_experts_and_judges(config: Config) -> tuple[dict[str, Expert], dict[str, Expert]]:
    """Experts as ``make_experts``, and those that only grade; none unless the configuration has
    some. Together, because those on vLLM share the slots. Raises what ``make_experts`` raises."""
    experts, judges = _made(config, config.experts, config.judges)
    return experts, judges


def _made(config: Config, *lists: Sequence[ExpertSettings]) -> list[dict[str, Expert]]:
    # One worker for all local models: they share the same cores.
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-expert")
    on_vllm = experts_on_vllm(config, [s for one in lists for s in one if is_on_vllm(s)])
    tools = tools_of(config, [s for one in lists for s in one if is_tools(s)])
    made = [_by_name(config, one, worker, on_vllm, tools) for one in lists]
    if not made[0]:
        raise ConfigError("`experts:` is empty. Add at least one, e.g. {kind: bundled}.")
    return made


def _by_name(
    config: Config,
    all_settings: Sequence[ExpertSettings],
    worker: ThreadPoolExecutor,
    on_vllm: Mapping[int, list[Expert]],
    tools: Mapping[int, Found],
) -> dict[str, Expert]:
    experts: dict[str, Expert] = {}
    for settings in all_settings:
        made: list[Expert] = []
        if is_on_vllm(settings):
            made += on_vllm[id(settings)]
        elif is_tools(settings):
            made += tools[id(settings)].experts
        elif isinstance(settings, BundledExperts):
            made += bundled_experts(
                worker, names=settings.names, load_usd_per_s=config.host_usd_per_s
            )
        elif isinstance(settings, LocalExpertSettings):
            made.append(_local(settings, config, worker))
        elif isinstance(settings, LatentExpertSettings):
            made.append(_latent(settings, config, worker))
        elif isinstance(settings, OpenAIExpertSettings):
            made.append(_openai(settings, config))
        elif isinstance(settings, LiteLLMExpertSettings):
            made.append(_litellm(settings, config))
        elif isinstance(settings, HumanExpertSettings):
            made.append(_human(settings, config))
        for expert in made:
            name = expert.card.name
            if name in experts:
                raise ConfigError(f"Two experts are called {name!r}. Rename one under `experts:`.")
            if name in config.all_policies:
                raise ConfigError(
                    f"{name!r} is the name of an expert and of a policy; a request could not "
                    "tell them apart. Rename the expert."
                )
            experts[name] = expert
    return experts


def _local(settings: LocalExpertSettings, config: Config, worker: ThreadPoolExecutor) -> Expert:
    folder = settings.folder
    try:
        model = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"Expert {settings.name!r}: {folder} has no config.json. `folder` must be a Hugging "
            "Face model folder (config.json, *.safetensors, tokenizer.json)."
        ) from None
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"Expert {settings.name!r}: {folder}/config.json: {error}") from None
    weights = list(folder.glob("*.safetensors"))
    if not weights:
        raise ConfigError(
            f"Expert {settings.name!r}: {folder} holds no *.safetensors. Pickled weights (*.bin) "
            "are not loaded; convert them first."
        )
    tool_format = chosen_format(settings.tool_format, folder)
    if settings.scorer is not None:
        read_scorer_card(settings.scorer, folder)  # refused now, and not at the first question
    card = ExpertCard(
        name=settings.name,
        kind="local",
        description=settings.description or f"{model.get('model_type', 'model')} in {folder.name}",
        prices=_prices(settings.prices, load_usd_per_s=config.host_usd_per_s),
        context_tokens=settings.context_tokens or int(model["max_position_embeddings"]),
        memory_bytes=sum(f.stat().st_size for f in weights),
        version=weights_fingerprint(folder),
        modes=config.modes_of(settings),
        takes=TOOL_EXTRA if tool_format else frozenset(),
    )
    return LocalExpert(
        card,
        folder,
        device=settings.device,
        worker=worker,
        tool_format=tool_format,
        scorer=settings.scorer,
    )


def _latent(settings: LatentExpertSettings, config: Config, worker: ThreadPoolExecutor) -> Expert:
    try:
        if settings.engines:
            return _latent_on_engines(settings, config)
        if settings.head is None:
            return bundled_latent_expert(
                settings.name,
                worker=worker,
                load_usd_per_s=config.host_usd_per_s,
                description=settings.description,
                device=settings.device,
            )
        return latent_expert(
            settings.name,
            settings.head,
            {name: m.folder for name, m in settings.members.items()},
            {
                name: _prices(m.prices, load_usd_per_s=config.host_usd_per_s)
                for name, m in settings.members.items()
            },
            worker=worker,
            description=settings.description,
            device=settings.device,
            modes=config.modes_of(settings),
        )
    except BadHead as error:
        raise ConfigError(f"Expert {settings.name!r}: {error}") from None


def _latent_on_engines(settings: LatentExpertSettings, config: Config) -> Expert:
    if settings.prices is None:  # the settings' own check says so first
        raise ConfigError(f"Expert {settings.name!r}: `engines` need `prices`.")
    return latent_expert_on_engines(
        settings.name,
        settings.head,
        {name: m.folder for name, m in settings.members.items()},
        {
            name: EngineUrls(model=e.model, pooling=e.pooling, completions=e.completions)
            for name, e in settings.engines.items()
        },
        _prices(settings.prices),
        description=settings.description,
        modes=config.modes_of(settings),
    )


def _openai(settings: OpenAIExpertSettings, config: Config) -> Expert:
    card = ExpertCard(
        name=settings.name,
        kind="openai",
        description=settings.description or f"{settings.model} at {settings.base_url}",
        prices=_prices(settings.prices),
        context_tokens=settings.context_tokens or DEFAULT_CONTEXT_TOKENS,
        version=_remote_version(settings),
        modes=config.modes_of(settings),
        takes=OPENAI_EXTRA,
    )
    wire = OpenAIWire(
        settings.base_url,
        settings.model,
        api_key=_key(settings),
        extra_body=settings.extra_body,
    )
    return _remote(card, wire, settings)


def _litellm(settings: LiteLLMExpertSettings, config: Config) -> Expert:
    if settings.prices:
        prices, source, context = _prices(settings.prices), STATED, None
    else:
        try:
            known = listed(settings.model, INSTALL)
        except UnknownPrice as error:
            raise UnknownPrice(f"Expert {settings.name!r}: {error}") from None
        prices, source, context = known.prices, known.source, known.context_tokens
    card = ExpertCard(
        name=settings.name,
        kind="litellm",
        description=settings.description or f"{settings.model} by LiteLLM",
        prices=prices,
        price_source=source,
        takes=OPENAI_EXTRA,
        context_tokens=settings.context_tokens or context or DEFAULT_CONTEXT_TOKENS,
        version=_remote_version(settings),
        modes=config.modes_of(settings),
    )
    wire = LiteLLMWire(
        settings.model,
        api_base=settings.api_base,
        api_key=_key(settings),
        extra_body=settings.extra_body,
    )
    return _remote(card, wire, settings)


def _human(settings: HumanExpertSettings, config: Config) -> Expert:
    card = ExpertCard(
        name=settings.name,
        kind="human",
        description=settings.description or "a person",
        prices=Prices.a_call(settings.call_usd),
        context_tokens=CONTEXT_TOKENS,
    )
    return HumanExpert(
        card,
        Desk(config.desk_path),
        deadline_s=settings.deadline_s,
        instructions=settings.instructions,
    )


RemoteSettings = OpenAIExpertSettings | LiteLLMExpertSettings


def _remote(card: ExpertCard, wire: Wire, settings: RemoteSettings) -> Expert:
    return RemoteExpert(
        card, wire, max_concurrent=settings.max_concurrent, timeout_s=settings.timeout_s
    )


def _prices(settings: PriceSettings, *, load_usd_per_s: float = 0.0) -> Prices:
    return Prices(
        input_usd_per_mtok=settings.input_usd_per_mtok,
        output_usd_per_mtok=settings.output_usd_per_mtok,
        load_usd_per_s=load_usd_per_s,
        cached_input_usd_per_mtok=settings.cached_input_usd_per_mtok
        if isinstance(settings, RemotePriceSettings)
        else None,
    )


def _key(settings: RemoteSettings) -> str | None:
    name = settings.api_key_env
    if name is None:
        return None
    if not (key := os.environ.get(name)):
        raise ConfigError(
            f"Expert {settings.name!r} takes its key from the environment variable {name}, which "
            f"is not set. Set it: export {name}=..., or take `api_key_env` out."
        )
    return key


def _remote_version(settings: RemoteSettings) -> str:
    """What is asked, not where: the same weights on another machine are the same expert."""
    told = json.dumps([settings.model, settings.extra_body, settings.version], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
