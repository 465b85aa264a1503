"""Do the servers behind the configured experts answer? They are asked for their models: nothing is
generated, so nothing is paid.

Experts by LiteLLM are not asked: what a provider answers for free differs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config import Config, OpenAIExpertSettings

if TYPE_CHECKING:
    from aiohttp import ClientSession

TIMEOUT_S = 5.0
_WITHOUT_LIST = {404, 405, 501}
"""What servers answer that speak of no models; the chat may work all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reached:
    """What a server said when it was asked for its models."""

    expert: str
    problem: str = ""
    """Why no call can succeed; empty when nothing speaks against it."""
    doubt: str = ""
    """What may be wrong."""


def servers_of(config: Config) -> list[OpenAIExpertSettings]:
    """Experts and judges behind a server of their own."""
    return [e for e in (*config.experts, *config.judges) if isinstance(e, OpenAIExpertSettings)]


async def reach(
    servers: Sequence[OpenAIExpertSettings], timeout_s: float = TIMEOUT_S
) -> list[Reached]:
    """Ask all at once; each has ``timeout_s``. Nothing is raised for a server that is not there."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        return list(await asyncio.gather(*(_reach(server, session) for server in servers)))


async def _reach(server: OpenAIExpertSettings, session: ClientSession) -> Reached:
    import aiohttp

    url = f"{server.base_url.rstrip('/')}/models"
    key = os.environ.get(server.api_key_env) if server.api_key_env else None
    headers = {"authorization": f"Bearer {key}"} if key else {}
    problem = doubt = ""
    try:
        # A redirect would take the key to somebody else.
        async with session.get(url, headers=headers, allow_redirects=False) as response:
            if response.status == 200:
                doubt = _missing(server.model, await response.json(content_type=None))
            elif response.status in _WITHOUT_LIST:
                doubt = f"{url} lists no models (HTTP {response.status})"
            elif response.status in (401, 403):
                problem = f"{url} refuses the key (HTTP {response.status}); see `api_key_env`"
            else:
                problem = f"{url} answered with HTTP {response.status}"
    except TimeoutError:
        problem = f"{url} did not answer within {session.timeout.total:g} s"
    except (aiohttp.ClientError, OSError) as error:
        problem = f"cannot reach {url}: {error}. Start the server, or correct `base_url`"
    except ValueError:
        doubt = f"{url} does not list models as OpenAI's protocol does"
    return Reached(expert=server.name, problem=problem, doubt=doubt)


def _missing(model: str, listing: object) -> str:
    rows = listing.get("data") if isinstance(listing, dict) else None
    if not isinstance(rows, list):
        raise ValueError("no list of models")
    names = [str(row.get("id")) for row in rows if isinstance(row, dict)]
    return "" if model in names else f"no model {model!r} there, but {', '.join(names) or 'none'}"
