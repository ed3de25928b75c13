# The ways into this project. The first one that needs it makes .venv.

PYTHON ?= python3
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
BIN := .venv/bin

.PHONY: help demo test test-fast lint bench docs clean

help:
	@echo "make demo       back up a small stack, destroy it, bring it back, prove it"
	@echo "make test       lint, types and every test; PYTEST_ARGS=... goes to pytest"
	@echo "make test-fast  the tests without the slow ones"
	@echo "make lint       ruff and mypy"
	@echo "make bench      speed and memory against plain shell pipelines; BENCH_ARGS=--small"
	@echo "make docs       write the generated reference pages anew"
	@echo "make clean      remove what the other targets made"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Holdfast needs Python 3.11 or later: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { echo "No virtual environment: on Debian, apt-get install python3-venv" >&2; exit 1; }

# What a user installs; enough for the demo.
.venv/.installed: pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# And what a developer needs.
.venv/.developing: pyproject.toml | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch .venv/.installed $@

demo: .venv/.installed
	@$(BIN)/python -m demo.run $(DEMO_ARGS)

lint: .venv/.developing
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Tests start thousands of processes: where PYTHONDONTWRITEBYTECODE is set, each would compile anew.
test: lint
	@$(BIN)/python -m compileall -q runner
	@$(BIN)/pytest $(PYTEST_ARGS)

test-fast: .venv/.developing
	@$(BIN)/pytest -m "not slow" $(PYTEST_ARGS)

bench: .venv/.installed
	@$(BIN)/python -m bench.run $(BENCH_ARGS)

docs: .venv/.installed
	@$(BIN)/python -m docs.generate

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .holdfast
	rm -rf demo/stack demo/backups demo/offsite demo/keys demo/reports demo/.holdfast
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
