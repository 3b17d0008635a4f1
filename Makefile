# `make demo` runs the main job, `make test` the tests; both make .venv and install first.
# `make extras` adds lm-evaluation-harness and Ray, whose tests are skipped without them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint e2e install extras clean

install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

extras: install
	$(BIN)/python -m pip install --quiet --editable '.[test,eval,ray]'

demo: install
	$(BIN)/gpt2v demo --out runs/demo --overwrite

test: install
	$(BIN)/python -m pytest

e2e: install
	$(BIN)/python -m pytest -m e2e -n 0

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv runs build src/*.egg-info
