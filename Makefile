# `make demo` and `make test` set up what they need in .venv and run; nothing else is required first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test fuzz check bench setup clean

demo: $(VENV)/.ready
	$(BIN)/molting demo

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

# Other random examples than those of `make test`, and more of them.
fuzz: $(VENV)/.ready-dev
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/molting_tui/state tests/engine/contract tests/engine/data

check: $(VENV)/.ready-dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready-dev
	for table in benchmarks/[a-z]*.py; do $(BIN)/python $$table || exit 1; done

setup: $(VENV)/.ready-dev

# torch first: its pinned version must be there before anything that would ask for another.
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
