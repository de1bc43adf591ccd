.PHONY: demo test test-bare mutation

# The one thing an install depends on; a finished one is marked by a file in the environment.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
SCHEMA := schemas/config.schema.json
# uv installs in a fraction of pip's time; it does not read pip's own setting of where wheels may lie
INSTALL_IN = UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet --python $(1)/bin/python
INSTALL := $(call INSTALL_IN,$(VENV)) --compile-bytecode -c envs/requirements.lock

demo: $(VENV)/installed $(SCHEMA)
	$(BIN)/snakemake --cores all --rerun-incomplete --config scale=demo -- demo
	@cat results/demo.txt

# Three workers for two cores, because some tests only wait for SLURM or for other processes.
test: $(VENV)/installed-dev $(SCHEMA)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $$(($$(nproc) * 3 / 2)) --dist loadgroup --no-loadscope-reorder --durations=20

# The losses installed beside another numpy, without the workflow: what a person has who takes them into a training.
BARE := .venv-bare
test-bare: $(BIN)/uv
	$(PYTHON) -m venv --clear --without-pip $(BARE)
	$(call INSTALL_IN,$(BARE)) . torch==2.13.0 numpy==2.2.6
	cd $(BARE) && bin/python ../tests/bare.py
	rm -r $(BARE) build

# Puts one mistake at a time into the code and lists those that no test notices. It takes days.
# MUTANTS='diffusion2gan.losses*' tries those of one package, SAMPLE=300 a random sample of all (tests/README.md).
SEED := 0
mutation: $(VENV)/installed-dev
ifdef SAMPLE
	OMP_NUM_THREADS=1 $(BIN)/python tests/sample_mutants.py $(SAMPLE) $(SEED)
else
	OMP_NUM_THREADS=1 $(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results
endif

# for editors that check config.yaml and scales/ while you type
$(SCHEMA): $(VENV)/installed $(addprefix src/diffusion2gan/,choices.py settings.py study/entries.py)
	mkdir -p $(@D)
	$(BIN)/python -m diffusion2gan.study.config > $@

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet uv==0.13.9

$(VENV)/installed: $(BIN)/uv pyproject.toml envs/requirements.lock
	$(INSTALL) -e ".[workflow,toy]"
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) -e ".[workflow,toy,dev]"
	touch $@
