# The doors: demo, test, check, bench, chaos. Everything lives in .venv and .vigil.
PYTHON ?= python3
BIN := .venv/bin
NAME ?= scoring
ARGS ?=
WORKERS ?= 2
# What Python compiles is kept in __pycache__: without it every process that a test starts compiles Vigil anew.
unexport PYTHONDONTWRITEBYTECODE
SERVICES := gateway ingest scoring audit monitoring report
COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	--no-header --build-deps-for editable --allow-unsafe --strip-extras

.PHONY: setup demo test check bench chaos lock
setup: .venv/.ready

.venv/.ready: pyproject.toml requirements/all.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Vigil needs Python 3.11 or later: make setup PYTHON=python3.11")'
	@echo "installing into .venv: about 1 GB, a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements/all.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m services.scoring.warm
	touch $@

demo: setup
	$(BIN)/vigil demo $(ARGS)

test: setup
	$(BIN)/python -m services.scoring.warm
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/$(NAME).py $(ARGS)

chaos: setup
	PYTHONPATH=tests $(BIN)/python -m chaos --json docs/chaos.json $(ARGS)

lock:
	$(BIN)/pip install --quiet pip-tools
	$(COMPILE) --all-extras -o requirements/all.lock pyproject.toml
	$(COMPILE) $(SERVICES:%=--extra %) --constraint requirements/all.lock -o requirements/services.lock pyproject.toml
