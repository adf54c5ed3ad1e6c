# Two commands are enough: `make serve` and `make test`. Everything lives in .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

# Where it is set, every process compiles all of its modules anew: servers, commands, the tests.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup serve check test test-slow test-slice bench docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Indelible needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making $(VENV) (once)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check -U "pip>=25.1"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e ".[server]"
	@touch $@

# What the tests and checks need besides the server.
$(VENV)/.ready-dev: $(VENV)/.ready
	@$(BIN)/python -m pip install -q --disable-pip-version-check --group dev --group frameworks
	@touch $@

serve: setup
	@$(BIN)/indelible serve

check: $(VENV)/.ready-dev
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two at a time, for tests mostly wait; what measures time comes after them, alone. What a machine
# does besides only ever adds to a time: of five tries one must hold.
test: check
	$(PYTEST) -n 2 --dist worksteal -p no:rerunfailures -m "not slow and not clocked"
	$(PYTEST) -m "clocked and not slow" --reruns 4 --only-rerun AssertionError

test-slow: $(VENV)/.ready-dev
	$(PYTEST) -m slow --timeout=3600

# Eight minutes of test-slow, another part for each commit: what CI runs after `make test`. What
# measures time is left to a machine that does nothing else.
test-slice: $(VENV)/.ready-dev
	$(PYTEST) -p tests.slices -m "slow and not clocked" --timeout=900 --durations=0 --slice-of "$$(git rev-parse HEAD)"

bench: $(VENV)/.ready-dev
	$(BIN)/python -m bench

# Pages of docs/reference that are made from the code.
docs: $(VENV)/.ready-dev
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
