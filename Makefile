.PHONY: demo test

# The one thing an install depends on; a finished one is marked by a file in the environment.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
# uv installs in a fraction of pip's time; it does not read pip's own setting of where wheels may lie
INSTALL := UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c envs/requirements.lock

demo: $(VENV)/installed
	$(BIN)/snakemake --cores all --rerun-incomplete --config scale=demo -- demo
	@cat results/demo.txt

test: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadgroup

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet uv==0.13.9

$(VENV)/installed: $(BIN)/uv pyproject.toml envs/requirements.lock
	$(INSTALL) -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) -e ".[dev]"
	touch $@
