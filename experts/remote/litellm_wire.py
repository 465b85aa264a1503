"""Whatever LiteLLM speaks, by its model ids (``anthropic/claude-...``, ``openai/gpt-...``).

LiteLLM is used for what it knows: providers' dialects. Its retries are off, because retries are
charged and so are the expert's to make; so is the download of its price table at import. It counts
tokens itself where a provider does not, and does not tell us which it did.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from experts.errors import ConfigError
from experts.remote.chat import Stream, meaning_of, reply_of, request_of
from experts.remote.retries import retry_after_s
from experts.remote.wire import Reply, WireError
from experts.values import Call

INSTALL = "pip install 'conclave-coe[litellm]'"
_NEVER_SENT = {"ConnectError", "ConnectTimeout", "ClientConnectorError", "ConnectionRefusedError"}
_CHATTY = ("LiteLLM", "openai", "httpx", "httpcore")
_SECRETS = ("_KEY", "_TOKEN", "_SECRET")


class LiteLLMWire:
    """One model, by its LiteLLM id."""

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """api_base, api_key: None leaves them to LiteLLM, which reads the provider's usual
        environment variables. extra_body: as for ``OpenAIWire``."""
        self._model = model
        self._where = {"api_base": api_base, "api_key": api_key}
        self._extra_body = dict(extra_body or {})

    async def ask(self, call: Call) -> Reply:
        litellm = await _litellm()
        self._check_extra(litellm, call)
        try:
            response = await litellm.acompletion(**self._arguments(call))
        except Exception as error:  # LiteLLM raises its own, openai's, httpx's and plain ones
            raise _explained(error, self._where["api_key"]) from None
        return reply_of(response.model_dump())

    async def stream(self, call: Call) -> AsyncGenerator[str | Reply]:
        litellm = await _litellm()
        self._check_extra(litellm, call)
        chunks = Stream()
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        try:
            pieces = await litellm.acompletion(**self._arguments(call), **asked)
            async for piece in pieces:
                if fresh := chunks.take(piece.model_dump()):
                    yield fresh
        except WireError:
            raise
        except Exception as error:
            raise _explained(error, self._where["api_key"]) from None
        yield chunks.reply()

    def _check_extra(self, litellm: Any, call: Call) -> None:
        """``drop_params`` is for what we add; what the caller asked for must not be dropped."""
        if not call.sampling.extra:
            return
        known = litellm.get_supported_openai_params(model=self._model) or ()
        for name, _ in call.sampling.extra:
            if name not in known:
                raise WireError(f"{name}: LiteLLM says that {self._model} does not take it")

    def _arguments(self, call: Call) -> dict[str, Any]:
        fields = {
            **request_of(call),
            "model": self._model,
            "num_retries": 0,
            "max_retries": 0,
            "drop_params": True,  # a seed or log-probabilities, where the provider has none
            **self._where,
            **self._extra_body,
        }
        return {name: value for name, value in fields.items() if value is not None}


async def _litellm() -> Any:
    """The library: seconds of importing, so not on the event loop."""
    return await asyncio.to_thread(load_litellm)


def load_litellm() -> Any:
    """Raises ConfigError where the extra is not installed."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm
    except ImportError:
        raise ConfigError(f"Experts of kind litellm need LiteLLM: {INSTALL}") from None
    litellm.suppress_debug_info = True
    for name in _CHATTY:
        # While debugging they log requests and refusals, with the keys that providers quote.
        logging.getLogger(name).setLevel(logging.WARNING)
    return litellm


def _explained(error: Exception, api_key: str | None) -> WireError:
    status = int(getattr(error, "status_code", None) or 0)
    message = _without_secrets(str(error), api_key)
    if type(error).__name__ == "ContextWindowExceededError":
        return WireError(message, code="context_too_long", status=status)
    if type(error).__name__ == "ContentPolicyViolationError":
        return WireError(message, code="refused", status=status)
    if _chain(error) & _NEVER_SENT:
        return WireError(message, code="unreachable", is_transient=True)
    response = getattr(error, "response", None)
    headers = getattr(error, "litellm_response_headers", None) or getattr(response, "headers", {})
    inner = getattr(error, "code", None)
    code, transient = meaning_of(status, message, inner if isinstance(inner, str) else "")
    # A connection that was lost comes as a 500 of LiteLLM's own, without the provider's headers.
    lost = status >= 500 and not headers
    return WireError(
        message,
        code=code,
        is_transient=transient,
        may_be_paid=lost or not status,
        retry_after_s=retry_after_s(headers.get("retry-after")) if headers else None,
        status=status or None,
    )


def _chain(error: BaseException | None) -> set[str]:
    """Names of the errors that this one came of."""
    names: set[str] = set()
    while error is not None and len(names) < 16:
        names.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    return names


def _without_secrets(message: str, api_key: str | None) -> str:
    """LiteLLM takes keys from the environment, and providers quote keys that they refuse."""
    if api_key:
        message = message.replace(api_key, "***")
    for name, value in os.environ.items():
        if name.endswith(_SECRETS) and len(value) > 5:
            message = message.replace(value, "***")
    return message
