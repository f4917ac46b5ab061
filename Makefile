# The only entry points, for people and for CI. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Peers that the bench measures against live apart: they pull in a hundred packages.
BENCH_VENV := .venv-bench
BENCH_READY := $(BENCH_VENV)/.ready
BENCH_PYTHON ?= $(BENCH_VENV)/bin/python
BENCH_ARGS ?=
TEST_ARGS ?=
WHEELHOUSE_ARGS ?=

.PHONY: help demo test check bench fuzz wheelhouse clean

help:
	@echo "make demo    train on real digits without network, kill one run, sync, recover, compare"
	@echo "make test    all tests but the long ones"
	@echo "make check   ruff format --check, ruff check, mypy --strict"
	@echo "make bench   one table: localstore beside wandb, trackio, restic, borg, plain JSON lines"
	@echo "make fuzz    the long tests"
	@echo "make wheelhouse  dist/wheelhouse: all wheels, checksums, a bill of materials"
	@echo "make clean   remove what the other targets made"

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest -W error -m "not fuzz" $(TEST_ARGS)

fuzz: $(READY)
	$(BIN)/python -m pytest -W error -m fuzz $(TEST_ARGS)

check: $(READY)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

$(BENCH_READY):
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check wandb trackio pandas pillow
	touch $@

bench: $(READY) $(if $(filter $(BENCH_VENV)/%,$(BENCH_PYTHON)),$(BENCH_READY))
	$(BIN)/python bench/run.py --peers $(BENCH_PYTHON) $(BENCH_ARGS)

wheelhouse: $(READY)
	$(BIN)/python scripts/wheelhouse.py dist/wheelhouse $(WHEELHOUSE_ARGS)

clean:
	rm -rf $(VENV) $(BENCH_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
