# make demo | test | test-zoo | lint | bench | docs: each makes the environment first, once.

PYTHON ?= python3
TEST_WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
READY := $(VENV)/.ready

.PHONY: demo test test-zoo lint bench docs clean

demo: $(READY)
	$(BIN)/mutualnet demo

# Small networks gain nothing from a second thread: each worker has one. Tests start many
# interpreters, which take twice as long where bytecode is not kept.
test: $(READY)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist worksteal

# One network of every family, a process each: about half an hour.
test-zoo: $(READY)
	rm -f benchmarks/zoo.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/zoo.py --check --page

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/run.py

docs: $(READY)
	$(BIN)/python docs/make_reference.py

clean:
	rm -rf $(VENV)

# With uv where there is one; UV_TORCH_BACKEND=cpu then picks the small CPU build of PyTorch.
$(READY): pyproject.toml
ifdef UV
	test -x $(BIN)/python || uv venv --python $(PYTHON) $(VENV)
	uv pip install --python $(BIN)/python -e '.[train,runtime,signing,export,video,detection,dev]'
else
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install -e '.[train,runtime,signing,export,video,detection,dev]'
endif
	touch $@
