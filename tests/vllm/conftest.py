"""These tests run on a real vLLM in an environment of its own: ``make test-vllm``."""

from __future__ import annotations

import os

if "CONCLAVE_VLLM_PYTHON" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
