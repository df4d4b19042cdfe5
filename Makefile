# make run            the study on the embedded digits, offline, and its report
# make run STUDY=mnist  the paper's own study (studies/mnist.yaml over config.yaml)
# make plan           what the next run will do, and why, in words
# make bundle         the finished study as one archive, to be cited or continued elsewhere
# make test           every check and test but for the two below
# make test-kill      the study killed 20 times and restarted, its results compared: five minutes
# make test-slurm     the workflow on a Slurm of its own (Debian, root; installs what is missing)
# make benchmark      attacks side by side, on models of the MNIST study (or STUDY=digits), into docs/benchmarks
# make clean          removes results, Snakemake's records and the environment
STUDY ?= digits
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/installed
COMMAND := PYTHONPATH=src$${PYTHONPATH:+:$$PYTHONPATH} python -m blindspots
ifneq ($(findstring :,$(CURDIR)),)
$(error $(CURDIR) holds a colon, at which PATH and PYTHONPATH are cut; rename it)
endif
ifneq ($(words $(STUDY)) $(words $(CORES)),1 1)
$(error STUDY names one file of studies/, without .yaml, and CORES is one number; they are '$(STUDY)' and '$(CORES)')
endif
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup run plan bundle test test-kill test-slurm lint benchmark clean

help:
	@sed -n 's/^# make/make/p' Makefile

setup: $(INSTALLED)

# The project itself is not installed: workflow and tests find src/ on their own.
$(INSTALLED): pyproject.toml envs/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt \
		--requirement envs/requirements.txt
	touch $^ $@  # a date in the future would have it installed again and again

run: studies/$(STUDY).yaml setup
	@$(COMMAND) run $(STUDY) --cores $(CORES)
	@$(COMMAND) report $(STUDY)

plan: studies/$(STUDY).yaml setup
	@$(COMMAND) plan $(STUDY)

bundle: studies/$(STUDY).yaml setup
	@$(COMMAND) bundle $(STUDY)

# Made only where the file is not there: a study that nobody wrote.
studies/%.yaml:
	@echo "error: there is no $@; known studies:" $$(basename -s .yaml studies/*.yaml) >&2
	@exit 1

lint: setup
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow src/blindspots/experiments
	snakemake --lint

# A file at a time to each worker; one more than two cores, for one or the other waits for Snakemake
# or for a lock. PASSIVE, for they and their jobs share the cores.
WORKERS := $(if $(filter 1 2,$(CORES)),3,4)
test: lint
	OMP_WAIT_POLICY=PASSIVE pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

test-kill: setup
	pytest -s tests/kill

test-slurm: setup
	pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt \
		--requirement envs/slurm.txt
	pytest tests/workflow/slurm

BENCHMARKED = softmax1 softmax2 softmax3 M1 N200-200-10 conv
# MNIST, unless a study is named.
ON := $(if $(filter file,$(origin STUDY)),mnist,$(STUDY))
# --cores ends the list of --configfile, which would take the models for configurations.
benchmark: studies/$(ON).yaml setup
	snakemake --configfile studies/$(ON).yaml --cores $(CORES) \
		$(foreach model,$(BENCHMARKED),results/$(ON)/models/$(model)/seed0.safetensors)
	python benchmarks/attacks.py results/$(ON) docs/benchmarks
	python benchmarks/softmax_nearest.py results/$(ON) 1000

clean:
	rm -rf .venv .snakemake results
