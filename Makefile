# `make demo` and `make test` need Python 3.11 and nothing else: each sets up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint types tests bench clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: install
	$(BIN)/zoo demo

test: lint types tests

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/pyrefly check

tests: install
	$(BIN)/pytest -n auto

bench: install
	$(BIN)/pytest benchmarks --benchmark-only

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .hypothesis
