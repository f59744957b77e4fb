# Everything from a fresh machine: Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready

# a container image may forbid bytecode; each start would then compile much of what it imports, for seconds
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup train test check bench torture clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(READY) ## an environment in .venv with everything, at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Oakleaf needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(VENV)/bin/uv pip install --quiet --python $(RUN) -c constraints.txt -e '.[dev]'
	@touch $@

train: $(READY) ## digits in three to six minutes; ARGS="model=dcgan data=celeba" for anything else
	$(RUN) train.py $(or $(ARGS),experiment=digits)

test: $(READY) ## the tests, on all cores
	$(RUN) -m pytest --numprocesses auto

check: $(READY) ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

torture: $(READY) ## 1,000 random command lines, 300 damaged pictures, 100 damaged checkpoints, 50 kills; minutes
	@for part in overrides pictures checkpoints kills; do echo "$$part:"; $(RUN) tests/torture/$$part.py || failed=1; done; exit $${failed:-0}

bench: $(READY) ## races against hand-written loops, on data/celeba; about 20 minutes, results into docs/performance.md
	@for part in training loading frame start numerics scaling one_pass; do $(RUN) benchmarks/$$part.py || exit 1; done; $(RUN) benchmarks/report.py

clean: ## remove the environment; runs and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
