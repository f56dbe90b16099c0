# make demo   sets up and compares xavier, kaiming and normal on the embedded data
# make test   sets up and runs the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up

.PHONY: help demo test check smoke bench docs clean
help:            ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

# One environment, made anew whenever pyproject.toml is newer than it.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

demo: $(STAMP)   ## compare xavier, kaiming and normal on the embedded MNIST images
	$(BIN)/initbench compare xavier kaiming normal
	@echo "Open results/latest/report.html; the tables are in results/latest/tables, the plots in results/latest/plots."

test: $(STAMP)   ## run the tests
	$(BIN)/python -m pytest -n auto

check: $(STAMP)  ## linters, type checker, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

smoke: $(STAMP)  ## the smoke benchmark: fails when an initialization no longer does what it must
	$(BIN)/initbench smoke

docs: $(STAMP)   ## make docs/schemes.md and docs/optimizers.md anew from the source
	$(BIN)/python docs/generate.py

bench: $(STAMP)  ## the figures of the main job, then the race against others (20 minutes; INITBENCH_DATA names the folder of mnist.npz)
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/speed.py

clean:           ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
