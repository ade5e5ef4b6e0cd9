# Each target sets up what it needs; `make` lists them.
VENV ?= .venv
# Threads that wait asleep leave the cores to other programs: half the time on a busy machine.
export OMP_WAIT_POLICY ?= PASSIVE
RUN := $(VENV)/bin/python

# The first of these that is new enough; PYTHON=... names another.
find_python = for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$name && exit; \
	done; echo python3
PYTHON ?= $(shell $(find_python))

.PHONY: help setup demo web bench test lint format clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16
	@echo "  Variables: PYTHON=python3.12 (interpreter), VENV=folder (environment, default .venv)"

setup: ## make or update the environment: torch, Detectron2, this package, the tools
	@python=$(PYTHON); \
	if ! $$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
		found=$$($$python --version 2>&1 | tail -n 1); \
		echo "Set-up stopped: efpnbs_d2 needs Python 3.10 or newer, and $$python is" \
			"'$$found'. Name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; \
	fi; \
	$$python third_party/set_up "$(VENV)"

demo: setup ## train a small detector on synthetic scenes, evaluate it, draw pictures (minutes)
	@$(RUN) -m efpnbs_d2.tools.demo

web: setup ## serve a page to try a detector: the demo's, or WEB="--config-file C --weights W"
	@$(RUN) -c 'import gradio' 2>/dev/null || \
		$(RUN) -m pip install --quiet --no-build-isolation --editable '.[web]'
	@$(RUN) -m efpnbs_d2.tools.web $(WEB)

bench: setup ## measure the speed against what is replaced: half an hour or more; BENCH=--quick: minutes
	@$(RUN) -m efpnbs_d2.tools.bench --output output/bench.json $(BENCH)

test: lint ## run the linter, the type checker and all tests
	$(RUN) -m mypy efpnbs_d2
	$(RUN) -m pytest

lint: setup ## run the linter
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: setup ## format the code
	$(RUN) -m ruff format .

clean: ## remove the environment and all that the targets wrote
	rm -rf "$(VENV)" output/demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +
