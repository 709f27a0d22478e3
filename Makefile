# gpenvideo: every command sets up what it needs on a fresh machine with Python 3.11 or newer.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench soak clean

demo: $(READY)  ## restore a face in a moving clip with the default weights; look into demo/
	$(BIN)/gpenvideo demo --out demo

test: check  ## every check: style, types, tests
	$(BIN)/pytest -q

check: $(READY)  ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)  ## speed, with quality and memory beside it; rewrites benchmarks/results
	$(BIN)/python -m benchmarks.kernels
	$(BIN)/python -m benchmarks.model
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.train
	$(BIN)/python -m benchmarks.temporal
	$(BIN)/python -m benchmarks.video
	$(BIN)/python -m benchmarks.waterfall

soak: $(READY)  ## the tests that take minutes
	$(BIN)/pytest -q -m soak

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo
