# Two commands do everything on a fresh Debian 12 with Python 3.11, git and make:
#   make demo   the whole story on a real engine, ending in a report
#   make test   the test suite
# Both create their own environment in .venv from requirements.lock; nothing has to be installed by hand.

PYTHON ?= python3
TORTURE_SECONDS ?= 300
VENV := .venv
BIN := $(VENV)/bin
SYNC := sh tools/setup.sh $(VENV)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONDONTWRITEBYTECODE  # else each process compiles everything, and pytest rewrites every assertion anew

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test test-slow test-all test-engines check audit docs package bench torture lock clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(VENV)/.run: pyproject.toml requirements.lock tools/setup.sh
	PYTHON=$(PYTHON) $(SYNC) run
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	PYTHON=$(PYTHON) $(SYNC) dev
	@touch $@

setup: $(VENV)/.run ## Create .venv with fewmark and the transformers engine

dev: $(VENV)/.dev ## The same, with the tools for working on fewmark

demo: $(VENV)/.run ## Measure few cells of a real engine, predict the rest, check the claim, write the report
	$(BIN)/fewmark demo --dir fewmark-demo

test: $(VENV)/.dev ## Run the fast tests (real engine, real PostgreSQL, real browser)
	$(BIN)/python -m pytest -n 3 --dist loadgroup

test-slow: $(VENV)/.dev ## Run the slow tests only
	$(BIN)/python -m pytest -n 3 --dist loadgroup -m "slow and not real_engine" -o timeout=1800

test-all: test test-slow ## Run the fast tests, then the slow ones

test-engines: $(VENV)/.dev ## Install every other engine into .engines (or $FEWMARK_HOME) and test each
	PYTHON=$(PYTHON) $(SYNC) engines
	FEWMARK_HOME=$${FEWMARK_HOME:-$(CURDIR)/.engines} $(BIN)/python -m pytest -m real_engine -o timeout=1800

check: $(VENV)/.dev ## Lint, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

audit: $(VENV)/.dev ## Look the locked packages up among known vulnerabilities, with pip-audit; AUDIT=1 fails if it cannot
	$(BIN)/python tools/audit.py

docs: $(VENV)/.dev ## Build the documentation (strict)
	$(BIN)/mkdocs build --strict --quiet

package: $(VENV)/.dev ## Build the wheel, install it elsewhere and run the main job from it
	sh tools/check_wheel.sh $(BIN)/python

bench: $(VENV)/.dev ## Run the benchmarks
	for name in startup store annealing predictor; do $(BIN)/python benchmarks/$$name.py || exit 1; done
	$(BIN)/python benchmarks/planning.py --deployments 18
	$(BIN)/python benchmarks/verbs.py

torture: $(VENV)/.dev ## Kill, damage and mutate at random for TORTURE_SECONDS (300), and print what failed
	$(BIN)/python tests/torture/run.py --seconds $(TORTURE_SECONDS) $(if $(TORTURE_SEED),--seed $(TORTURE_SEED))

lock: $(VENV)/.dev ## Write the environment's exact versions to requirements.lock
	$(BIN)/python tools/lock.py > requirements.lock.new && mv requirements.lock.new requirements.lock

clean: ## Remove what was built
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
