# What each target does is said by `make help`. Every target does its own set-up and can be run again.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
SERVERS := sglang or llamacpp or vllm
ENGINES := podman or runsc
WORKERS ?= $(shell echo $$(($$(nproc) + 1)))  # most tests wait for other processes half of the time

help:            ## Show the targets
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

demo:            ## Fix the example repository with the tiny demo model, in a sandbox (MODEL=sglang: served by SGLang)
	@scripts/setup.sh demo $(filter sglang,$(MODEL))
	@MODEL=$(MODEL) scripts/demo.sh

bot-demo:        ## Watch the GitHub bot work on a stand-in for GitHub: issue, draft pull request, review (ARGS=--once)
	@scripts/setup.sh bot-demo
	@scripts/service-demo.sh $(ARGS)

test:            ## Lint, types, import rules, and every test that needs no torch (needs 10 minutes, 0.5 GB)
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n $(strip $(WORKERS)) -m "not torch and not replay and not heavy and not evals and not postgres and not browser and not ($(SERVERS) or $(ENGINES))" $(PYTEST_ARGS)

test-all: test   ## The rest: real weights, real model servers, Podman, replays of recorded runs on real projects
	@scripts/setup.sh test-all
	$(BIN)/python -m pytest -n auto -m "(torch or replay or heavy or evals or postgres or browser) and not ($(SERVERS) or $(ENGINES))" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n auto -m "$(ENGINES)" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n auto -m "sglang" $(PYTEST_ARGS)
	$(BIN)/python -m pytest -n auto -m "llamacpp or vllm" $(PYTEST_ARGS)

lint:            ## Formatting, lint, strict types, import rules, generated docs
	@scripts/setup.sh test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/docs.py --check

docs:            ## Write the generated parts of the docs
	@scripts/setup.sh test
	$(BIN)/python scripts/docs.py

bench:           ## Run the benchmarks and print their tables
	@scripts/setup.sh bench
	$(BIN)/python benchmarks/run.py

lock:            ## Resolve the requirement lists again
	@scripts/setup.sh test
	scripts/lock.sh

.PHONY: help demo bot-demo test test-all lint docs bench lock
