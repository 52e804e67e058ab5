# Two commands do all set-up on a fresh machine: `make demo` and `make test`.
#   make demo    simulate -> corpus -> pre-train -> embed -> regress -> report, on two cores in minutes, into runs/demo/
#   make test    the test suite
#   make lint    format, lint and types
#   make bench   speeds as ratios to named peers
# PYTHON=python3.12 chooses the interpreter, 3.11 or later.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint bench clean

demo: $(INSTALLED)
	$(VENV)/bin/epilm demo --overwrite

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest

# no cache: ruff's keeps its verdict on the order of imports when the imported file has moved
lint: $(INSTALLED)
	$(VENV)/bin/ruff format --check --no-cache src tests
	$(VENV)/bin/ruff check --no-cache src tests
	$(VENV)/bin/pyright

bench: $(INSTALLED)
	$(VENV)/bin/epilm bench --json runs/bench.json

# torch first: DeepSpeed's build looks for it
$(INSTALLED): pyproject.toml infra/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "epilm needs Python 3.11 or later, $(PYTHON) is `$(PYTHON) --version`. Try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c infra/constraints.txt torch numpy
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c infra/constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .ruff_cache
