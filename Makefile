# make demo   sets up and compares xavier, kaiming and normal on the embedded data
# make test   sets up and runs the tests
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.set-up
OLDEST := .venv-oldest
SECONDS ?= 60
SHARE ?= 1

.PHONY: help demo test test-heavy test-zoo test-browser test-exports test-ray test-site test-default-device test-oldest test-all check smoke bench docs gallery golden faults fuzz soak clean
help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/'

# One environment, made anew whenever pyproject.toml is newer than it.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	@touch $@

# The same with the oldest release that pyproject.toml allows of each dependency (a download of 3 GB: torch is there for CUDA alone).
$(OLDEST)/.set-up: pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	sed -n '/^dependencies = \[/,/^\]/s/^ *"\([a-z0-9.]*\)>=\([0-9.]*\)",$$/\1==\2.*/p' pyproject.toml > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --no-compile --constraint $(OLDEST)/oldest.txt --editable . --group dev
	@touch $@

demo: $(STAMP)   ## compare xavier, kaiming and normal on the embedded MNIST images
	$(BIN)/initbench compare xavier kaiming normal
	@echo "Open results/latest/report.html; the tables are in results/latest/tables, the plots in results/latest/plots."

test: $(STAMP)   ## run the quick tests: minutes with the set-up
	$(BIN)/python -m pytest -n auto -m "not heavy and not zoo and not browser and not exports and not site and not ray"

test-heavy: $(STAMP)  ## run the tests that take longer: whole commands that are killed and resumed, the pages followed, what is shown as printed (half an hour)
	$(BIN)/python -m pytest -n auto -m heavy

test-zoo: $(STAMP)  ## run the zoo: models of many kinds, of torchvision, timm and transformers, against naive hooks (minutes)
	$(BIN)/python -m pip install --quiet --group zoo
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --dist worksteal -m zoo

test-browser: $(STAMP) ## open the pages in a headless Chromium: clicks, sizes, contrast, no error, no request (minutes)
	$(BIN)/python -m pip install --quiet --group browser
	$(BIN)/python -m pytest -n auto -m browser -rs

test-exports: $(STAMP) ## read what `initbench export` writes with TensorBoard, pandas, wandb and MLflow; run the notebook and the hook
	$(BIN)/python -m pip install --quiet --group exports
	$(BIN)/python -m pytest -n auto -m exports -rs

test-ray: $(STAMP)   ## run on real clusters of Ray on this machine: nodes that are killed, a driver that is (minutes)
	$(BIN)/python -m pip install --quiet --group ray
	$(BIN)/python -m pytest -m ray -rs

test-site: $(STAMP)  ## build the site of the docs: no warning, no link that leads nowhere
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m pytest -n auto -m site -rs

test-default-device: $(STAMP)  ## run the core of the tests with another default device for what the package makes
	$(BIN)/python -m pytest -n auto -m core --default-device meta

test-oldest: $(OLDEST)/.set-up  ## run the core of the tests with the oldest torch and other packages that are allowed
	$(OLDEST)/bin/python -m pytest -n auto -m core

test-all: test test-heavy test-zoo test-browser test-exports test-ray test-site test-default-device test-oldest  ## run the tests, then the heavier groups

check: $(STAMP)  ## linters, type checker, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

smoke: $(STAMP)  ## the smoke benchmark: fails when an initialization no longer does what it must
	$(BIN)/initbench smoke

docs: $(STAMP)   ## make anew what of docs comes from the source (schemes, commands, config keys, pictures), then the site in docs/_build
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/rooms.py
	$(BIN)/python docs/pictures.py
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build

gallery: $(STAMP) ## run the shipped sweeps and make the pictures of docs/sweep.md anew (ten minutes)
	$(BIN)/python docs/pictures.py sweep.md

bench: $(STAMP)  ## the figures of the main job, then the race against others (20 minutes; INITBENCH_DATA names the folder of mnist.npz)
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python benchmarks/main_job.py
	$(BIN)/python benchmarks/speed.py

faults: $(STAMP) ## the fault campaign: kills, flipped bits, full disks, two commands at once (SHARE=0.05 of it is what CI runs)
	$(BIN)/python benchmarks/faults.py --share $(SHARE)

fuzz: $(STAMP)   ## coverage-guided fuzzing of every reader (SECONDS=60 for each of 11)
	$(BIN)/python -m pip install --quiet --group fuzz
	$(BIN)/python benchmarks/fuzz.py --seconds $(SECONDS)

golden: $(STAMP) ## write the golden files of tests/golden anew, after a look at what has changed
	INITBENCH_GOLDEN=1 $(BIN)/python -m pytest -n auto -m golden

soak: $(STAMP)   ## thousands of runs in one command: memory, open files, threads, processes and temporary files must not grow (15 minutes)
	$(BIN)/python benchmarks/soak.py

clean:           ## remove the environment and caches
	rm -rf $(VENV) $(OLDEST) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
