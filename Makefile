# make setup, make demo, make test, make check, make benchmarks

# The first Python that is new enough.
PYTHON ?= $(shell for candidate in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$candidate && break; done)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format benchmarks clean

help:
	@echo "make setup       a virtual environment in .venv with all that is needed"
	@echo "make demo        learn a synthetic language without labels, in runs/demo"
	@echo "make test        the tests"
	@echo "make check       lint, formatting, types, direction of imports"
	@echo "make format      mend lint and formatting where a tool can"
	@echo "make benchmarks  list the benchmarks"
	@echo "make clean       remove .venv and all caches"

setup: .venv/.installed

# Done anew when what is to be installed changes.
.venv/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/wav2vec-u demo --out runs/demo

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks:
	@for script in benchmarks/*.py; do echo "$(BIN)/python $$script"; done

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
