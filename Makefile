# Each target sets up what it needs: a virtual environment in .venv, the packages, then the job.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
WORKDIR := runs/quickstart

.PHONY: read quickstart test test-slow lint

# Reads the text in a picture with the models of the package.
read: $(VENV)/installed
	$(VENV)/bin/tcm-jax spot docs/example.jpg --output read.jpg
	@echo "What it read is drawn in read.jpg"

# Trains the small recipe on rendered words, evaluates it on words it never saw, and draws what it reads.
quickstart: $(VENV)/installed
	$(RUN) -m tcm_jax.train --config configs/clip4str_quickstart.py --workdir $(WORKDIR)
	rm -rf $(WORKDIR)/words
	$(RUN) -m tcm_jax.data synth -n 2000 --split test --charset 36 --max-length 12 --difficulty 0.1 --seed 1 -o $(WORKDIR)/words
	$(RUN) -m tcm_jax.evaluate $(WORKDIR)/words --checkpoint $(WORKDIR)
	$(RUN) -m tcm_jax.predict read '$(WORKDIR)/words/images/0000[01]?.png' \
		--checkpoint $(WORKDIR) --picture $(WORKDIR)/read.png
	@echo "What it read is drawn in $(WORKDIR)/read.png"

test: $(VENV)/installed-tests
	$(RUN) -m pytest -n auto --dist worksteal -m "not slow"

# Whole trainings, kills, jobs of several processes, simulated meshes, plans for TPUs, documented commands.
test-slow: $(VENV)/installed-tests
	$(RUN) -m pytest -n auto --dist worksteal -m slow

lint: $(VENV)/installed-tests
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/shellcheck launch/*.sh launch/slurm.sbatch

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e .
	touch $@

$(VENV)/installed-tests: $(VENV)/installed
	$(RUN) -m pip install --quiet -e '.[tests]'
	touch $@
