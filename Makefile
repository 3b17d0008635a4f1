# `make demo` runs the main job, `make test` the tests; both make .venv and install first.
# `make extras` adds lm-evaluation-harness and Ray, whose tests are skipped without them.
# With another Python, in an environment of its own:
#   make test PYTHON=python3.13 VENV=build/python3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WHEEL := $(CURDIR)/build/wheel

.PHONY: demo test lint e2e install extras clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

extras: install
	$(BIN)/python -m pip install --quiet --editable '.[test,eval,ray]'

demo: install
	$(BIN)/gpt2v demo --out runs/demo --overwrite

test: install
	$(BIN)/python -m pytest

e2e: install # with the gpt2v of a wheel, as users get it
	rm -rf $(WHEEL)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --target $(WHEEL) .
	PYTHONPATH=$(WHEEL) $(BIN)/python -m pytest -m e2e -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf .venv runs build src/*.egg-info
