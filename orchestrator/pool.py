"""From configuration to experts: the one place that knows how each kind is made."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from experts.bundled import bundled_experts
from experts.cards import ExpertCard, Prices
from experts.errors import ConfigError
from experts.expert import Expert
from experts.local.expert import LocalExpert
from experts.local.fingerprint import weights_fingerprint
from orchestrator.config import BundledExperts, Config, LocalExpertSettings


def make_experts(config: Config) -> dict[str, Expert]:
    """Experts by name, in the configuration's order. Nothing is loaded.

    Raises ConfigError when two have one name, or a folder is not a model.
    """
    # One worker for all local models: they share the same cores.
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-expert")
    experts: dict[str, Expert] = {}
    for settings in config.experts:
        made: list[Expert] = []
        if isinstance(settings, BundledExperts):
            made += bundled_experts(
                worker, names=settings.names, load_usd_per_s=config.host_usd_per_s
            )
        else:
            made.append(_local(settings, config, worker))
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
    if not experts:
        raise ConfigError("`experts:` is empty. Add at least one, e.g. {kind: bundled}.")
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
    card = ExpertCard(
        name=settings.name,
        kind="local",
        description=settings.description or f"{model.get('model_type', 'model')} in {folder.name}",
        prices=Prices(
            input_usd_per_mtok=settings.prices.input_usd_per_mtok,
            output_usd_per_mtok=settings.prices.output_usd_per_mtok,
            load_usd_per_s=config.host_usd_per_s,
        ),
        context_tokens=settings.context_tokens or int(model["max_position_embeddings"]),
        memory_bytes=sum(f.stat().st_size for f in weights),
        version=weights_fingerprint(folder),
    )
    return LocalExpert(card, folder, device=settings.device, worker=worker)
