"""Questions of Hugging Face data sets, by the library ``datasets`` (an extra).

Downloading is the library's affair, and so is its cache; a folder of files on this machine is a
data set, too (``hf:./folder``), without network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experts.errors import ConfigError, DataError

INSTALL = "pip install 'conclave-coe[datasets]'"
_SPLITS = ("train", "validation", "test")


def read_hub(spec: str, limit: int | None = None) -> list[Mapping[str, Any]]:
    """Rows of ``NAME[:config][:split]``; without a split, of all that the data set has, each row
    saying which under ``split``.

    ``NAME::split`` names a split without a configuration. Raises DataError with the library's
    reason, and ConfigError where it is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise ConfigError(f"Hugging Face data sets need the library datasets: {INSTALL}") from None
    name, _, rest = spec.partition(":")
    config, _, split = rest.partition(":")
    try:
        found = datasets.load_dataset(name, config or None, split=split or None)
    except Exception as error:  # its own, the hub's, the network's, the file system's
        raise DataError(
            f"The data set hf:{spec} cannot be loaded: {type(error).__name__}: {error}. Write "
            "hf:NAME, hf:NAME:config, hf:NAME:config:split or hf:NAME::split."
        ) from None
    parts = {split: found} if split else dict(found.items())
    rows: list[Mapping[str, Any]] = []
    for part, table in parts.items():
        for row in table:
            rows.append({"split": part, **row} if part.split("[")[0] in _SPLITS else row)
            if limit is not None and len(rows) >= limit:
                return rows
    return rows
