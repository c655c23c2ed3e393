# `make help` lists the targets. Packages go into .venv, again after each change of pyproject.toml or the lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet

# Package index for torch, e.g. that of its CPU builds. Empty: the default build of torch.
TORCH_INDEX ?=

# Number of processes that run the tests; each runs one file at a time.
PROCESSES ?= 1
SPREAD := $(if $(filter-out 1,$(PROCESSES)),-n $(PROCESSES) --dist loadfile)
# Two processes whose products have two threads each take three times as long on two cores.
ifneq ($(PROCESSES),1)
export OMP_NUM_THREADS := 1
endif

# Prefect and its libraries send usage data unless these are set.
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-long test-engines lint format bench bench-gpu lock clean

help:
	@echo 'make demo    install and run `nightscribe demo`'
	@echo 'make test    the tests; one of them: make test ARGS="tests/test_architecture.py -k one"'
	@echo '             PROCESSES=2 runs two files of tests at a time'
	@echo 'make test-long  the tests that wait for minutes, such as for an approval that nobody gives'
	@echo 'make test-engines  the tests with Spark, which is downloaded once (300 MB); they need Java'
	@echo 'make lint    ruff check, ruff format --check, mypy'
	@echo 'make format  format the code and fix what ruff can fix'
	@echo 'make bench   the benchmarks, with the peer libraries, 25 minutes on two cores; make bench ARGS=--quick'
	@echo 'make bench-gpu  on a CUDA GPU: FLOPs utilisation, busy share, budgets, encoder, embed, zero_shot, cascade'
	@echo 'make lock    make constraints.txt again from pyproject.toml'
	@echo 'make clean   remove the environment and the caches'
	@echo
	@echo 'PYTHON=python3.12   another interpreter (3.11 or newer)'
	@echo 'TORCH_INDEX=URL     install torch from this package index, e.g. that of its CPU builds (2.1 GB in'
	@echo '                    all instead of 5.6); run `make clean` first to change the build'

demo: $(VENV)/installed-base
	$(BIN)/nightscribe demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest $(SPREAD) $(if $(ARGS),$(ARGS),-m "not long and not engines")

test-long: $(VENV)/installed-test
	$(BIN)/python -m pytest $(SPREAD) -m long

test-engines: $(VENV)/installed-test
	$(BIN)/python -m pytest -m engines tests/engines

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed-bench
	$(BIN)/python -m tests.bench $(ARGS)

bench-gpu: $(VENV)/installed-bench
	$(BIN)/python -m tests.bench --gpu $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find flows jobs transforms tests -name __pycache__ -prune -exec rm -rf {} +

# dev contains test, and test contains base: a larger install also marks the smaller ones as installed.
# bench adds its packages to base.
$(VENV)/installed-base: EXTRA :=
$(VENV)/installed-base: STAMPS := base
$(VENV)/installed-test: EXTRA := [test]
$(VENV)/installed-test: STAMPS := base test
$(VENV)/installed-dev: EXTRA := [dev]
$(VENV)/installed-dev: STAMPS := base test dev
$(VENV)/installed-bench: EXTRA := [bench]
$(VENV)/installed-bench: STAMPS := base bench

$(VENV)/installed-base $(VENV)/installed-test $(VENV)/installed-dev $(VENV)/installed-bench: pyproject.toml constraints.txt | $(BIN)/pip
	@echo 'Installing into $(VENV); the first time takes minutes and gigabytes.'
	$(if $(TORCH_INDEX),$(PIP) --no-deps --index-url $(TORCH_INDEX) -c constraints.txt torch)
	$(PIP) -c constraints.txt -e '.$(EXTRA)'
	@touch $(STAMPS:%=$(VENV)/installed-%)

NEEDS_PYTHON = nightscribe needs Python 3.11 or newer and '$(PYTHON)' is not; on Debian or Ubuntu: \
	sudo apt-get install python3.11-venv && make $(MAKECMDGOALS) PYTHON=python3.11
NEEDS_VENV = nightscribe needs the venv module of '$(PYTHON)'; on Debian or Ubuntu: \
	sudo apt-get install $(notdir $(PYTHON))-venv

# pip is installed last into a virtual environment, so an incomplete environment has none and is created again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "$(NEEDS_PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(NEEDS_VENV)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch is locked without its build (+cpu, +cu130): the user chooses the build, which also installs the CUDA packages.
lock:
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet '.[dev,bench]'
	{ grep '^#' constraints.txt; \
	  $(VENV)-lock/bin/python -m pip freeze --exclude nightscribe \
	  | grep -vE '^(nvidia-|cuda-|triton==)' | sed -E 's/^(torch==[^+]*)[+].*/\1/'; } > constraints.txt.new
	mv constraints.txt.new constraints.txt
	rm -rf $(VENV)-lock
