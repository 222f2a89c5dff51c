# The four doors: demo, test, check, bench. Everything lives in .venv and .vigil.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup check
setup: .venv/.ready

.venv/.ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[gateway,ingest,scoring,audit,training,simulator,local,test]'
	touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
