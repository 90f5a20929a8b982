# Every target sets up what it needs by itself, in .venv, once. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint format an4 bench docs clean

# Small models run fastest with a thread per process; the recipes start a process per core.
export OMP_NUM_THREADS ?= 1
# The environment's programs first, for recipes and tools that call python3.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Where AN4 is: a folder or a .tar.gz; empty, and the recipe downloads it.
export AN4_ROOT ?=
# More options of the recipe's run.sh, or of pytest.
ARGS ?=
# Processes that pytest spreads the tests over.
TEST_JOBS ?= 2

help:  ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | \
	    while IFS='|' read -r name what; do printf '  make %-10s %s\n' "$$name" "$$what"; done

setup:  ## make .venv (the other targets do it by themselves)
	@tools/setup_env.sh

demo: setup  ## all four train stages on synthetic speech, with a report; ARGS="..." goes to run.sh
	cd egs2/mini_tts/asr1 && ./run.sh $(ARGS)

an4: setup  ## the same on real speech; AN4_ROOT=folder or .tar.gz of the corpus
	@# the shell's realpath: make's functions would split a path at its spaces
	root=$${AN4_ROOT:+$$(realpath -e -- "$${AN4_ROOT}")}; cd egs2/an4/asr1 && \
	    ./run.sh $${root:+--an4_root "$${root}"} $(ARGS)

test: setup  ## all tests, as CI runs them
	.venv/bin/python -m pytest -n $(TEST_JOBS) --dist worksteal $(ARGS)

test-fast: setup  ## the tests that train nothing
	.venv/bin/python -m pytest -n $(TEST_JOBS) --dist worksteal -m "not slow" $(ARGS)

lint: setup  ## the linters of .pre-commit-config.yaml over all tracked files
	.venv/bin/pre-commit run --all-files --show-diff-on-failure

format: setup  ## let ruff mend what it can
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: setup  ## the benchmarks of losses and search; they print their tables
	@for script in $$(grep -l __main__ benchmarks/*.py); do \
	    echo "== $$script"; .venv/bin/python "$$script" $(ARGS); \
	done

docs: setup  ## the site of docs/ with the API reference, in build/site; without network
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --quiet --strict
	@echo "build/site/index.html"

clean:  ## remove caches and build leftovers, no data and no results
	rm -rf build dist ./*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
