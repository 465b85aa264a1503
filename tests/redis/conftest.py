"""These tests run on a real Redis: ``make test-redis``."""

from __future__ import annotations

import os

if "CONCLAVE_REDIS_SERVER" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
