# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv from the pins in constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: setup demo test lint docs bench clean

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet -c constraints.txt torch -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/eesearch search digits

test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: setup
	$(BIN)/python benchmarks/modes.py --quick
	$(BIN)/python benchmarks/solver.py --quick

clean:
	rm -rf .venv build site *.egg-info
