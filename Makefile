# Setup, tests and checks. Python 3.11 or newer and make are all that a new machine needs.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python
READY  := $(VENV)/.ready

# Container images often set PYTHONDONTWRITEBYTECODE. Every start would then compile the imported modules again, for seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup train smoke test check reference bench results torture clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

setup: $(READY) ## create the environment .venv with all dependencies, at the versions of constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Oakleaf needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(VENV)/bin/uv pip install --quiet --python $(RUN) -c constraints.txt -e '.[dev]'
	@touch $@

train: $(READY) ## train on scikit-learn's digits, two to five minutes; ARGS="model=dcgan data=celeba" trains something else
	$(RUN) train.py $(or $(ARGS),experiment=digits)

smoke: $(READY) ## run the fast tests, a few minutes on two cores
	$(RUN) -m pytest -m "not slow" --numprocesses auto

test: $(READY) ## run all tests, on all cores
	$(RUN) -m pytest --numprocesses auto

check: $(READY) ## check style (ruff) and types (mypy)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

reference: $(READY) ## write docs/reference/ from conf/ and the docstrings
	$(RUN) docs/generate_reference.py

bench: $(READY) ## compare with hand-written loops on data/celeba, about 20 minutes; writes docs/performance.md
	@for part in training loading frame start numerics scaling one_pass; do $(RUN) benchmarks/$$part.py || exit 1; done; $(RUN) benchmarks/report.py

results: $(READY) ## work off the runs of benchmarks/runs.yaml, one thread at low priority, days; stop and repeat at will
	@$(RUN) benchmarks/run_queue.py

torture: $(READY) ## try 1,000 random command lines, 300 damaged images, 100 damaged checkpoints, 50 kills and the reported faults, minutes
	@for part in overrides pictures checkpoints kills reported; do echo "$$part:"; $(RUN) tests/torture/$$part.py || failed=1; done; exit $${failed:-0}

clean: ## remove the environment and caches of tools; runs and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
