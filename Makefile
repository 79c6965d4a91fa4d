# Every target sets up .venv first, and again when pyproject.toml or constraints.txt changed.
# pip's own settings (index, constraints, cache) are honoured: PIP_EXTRA_INDEX_URL can name an index
# with a CPU-only torch.

SHELL := /bin/bash
# Python 3.11 or newer; only used to create .venv
PYTHON ?= python3
# Of pyproject.toml: dev, ray (more than one machine), bench (other implementations to compare with)
EXTRAS ?= dev
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready

ifneq ($(findstring :,$(CURDIR)),)
$(error $(CURDIR): the path of this folder has a ":", which PATH cannot hold: move it)
endif

# Stages are `python -m ...` and MLflow starts other processes: all have to use .venv.
export PATH := $(BIN):$(PATH)
unexport PYTHONHOME PYTHONPATH
# Paths may be non-ASCII, also with LC_ALL=C.
export PYTHONUTF8 := 1
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export DO_NOT_TRACK := 1

# Empty if .venv is incomplete, was moved here from another folder, or its Python has gone.
USABLE := $(shell { .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' \
	&& head -n 2 .venv/bin/pip | grep -F "$$(pwd -P)/.venv/bin/python"; } 2> /dev/null)

.DEFAULT_GOAL := help
.PHONY: help remake setup check repro demo confirm routers fashion report ui track cache clean clean-cache \
	lint format test test-slow test-browser test-faults test-standard-torch bench docs

help: ## show this list
	@awk -F ':.*## ' '/^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' Makefile

##@ Set up

setup: $(READY) ## create or update .venv, and build the C kernel if it is not built
	@compgen -G 'moe/engine/_kernel*.so' > /dev/null \
	  || .venv/bin/python -m pip install --quiet --no-deps -c constraints.txt -e .
	@compgen -G 'moe/engine/_kernel*.so' > /dev/null && echo '.venv is ready, with the C kernel' \
	  || echo '.venv is ready. The C kernel was not built: training uses the slower torch engine. To build it, install a C compiler and run make setup'

remake:

$(READY): pyproject.toml constraints.txt $(wildcard setup.py moe/engine/*.c) $(if $(USABLE),,remake)
ifeq ($(USABLE),)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo 'Setting up .venv: about 100 packages are downloaded and installed, once. This takes minutes.'
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
else
	@echo 'Updating .venv'
endif
	@.venv/bin/python -m pip install $(if $(wildcard $(READY)),--quiet) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

##@ Run a study

demo: $(READY) ## run the whole pipeline on 5,000 images in .work/demo, no download
	$(call run_copy,demo,--quiet)

check: $(READY) ## check params.yaml
	@python -m stages.check

repro: check ## run the study of params.yaml: train, evaluate, analyze, report, track
	@dvc repro
	@python -m stages.next_steps

confirm: $(READY) ## run the confirmatory study, 11,780 runs; writes results/confirm
	$(call run_copy,confirm,analyze)
	@python -m stages.confirm
	$(call run_copy,confirm,report)

routers: $(READY) ## compare all routers in two phases, 2,990 runs; writes results/routers
	$(call run_copy,routers-select,analyze)
	@python -m stages.choose
	$(call run_copy,routers,analyze)
	@python -m stages.collect

fashion: $(READY) ## run the study again on Fashion-MNIST, 3,540 runs; writes results/fashion
	$(call run_copy,fashion,report)
	@python -m stages.fashion

##@ Look at the results

report: check ## render the report from the tables in results/, without training
	@dvc repro --single-item --force report

ui: $(READY) ## compare trials and runs in MLflow, on 127.0.0.1; PORT=5000
	@python -m stages.ui --port $(or $(PORT),5000)

track: check ## bring MLflow up to date; STUDY=confirm for another study
ifdef STUDY
	@test -f studies/$(STUDY).yaml || { echo "STUDY=$(STUDY): studies/ has no $(STUDY).yaml" >&2; exit 2; }
	$(call run_copy,$(STUDY),track)
else
	@dvc repro --single-item --force track
endif

##@ Disk space

cache: $(READY) ## show the sizes of the store of finished runs, weights/ and DVC's cache
	@python -m stages.cache

clean: ## remove .work and the files of tools; keeps results and finished runs
	rm -rf .work build *.egg-info .pytest_cache .ruff_cache .hypothesis dvc_plots

clean-cache: ## empty the store of finished runs
	rm -rf .cache/shards

##@ Develop

lint: $(READY) ## run ruff and pyright
	ruff check .
	ruff format --check .
	pyright --level error

format: $(READY) ## fix and format the code with ruff
	ruff check --fix .
	ruff format .

test: $(READY) ## run the fast tests
	pytest -n 2 --dist loadfile -m 'not slow'

test-slow: $(READY) ## run the slow tests: whole pipelines, signals, clusters
	pytest -n 2 --dist loadfile -m slow

test-browser: $(READY) ## test the HTML pages in Chromium
	pytest tests/browser -o addopts=

test-faults: $(READY) ## kill the pipeline 30 times at random moments; SEED=... repeats a run
	SEED=$(SEED) COPIES=$(COPIES) pytest tests/faults -o addopts= -rA -s

test-standard-torch: ## test the download with the standard torch and torchvision (5 GB)
	mkdir -p .work/standard-torch
	$(PYTHON) -m venv --clear .work/standard-torch/venv
	.work/standard-torch/venv/bin/python -m pip install -c constraints.txt '.[dev]'
	cp params.yaml .work/standard-torch/
	@cd .work/standard-torch && venv/bin/python -c 'import torch, torchvision; print(torch.__version__, torchvision.__version__)'
	cd .work/standard-torch && venv/bin/python -m stages.download
	.work/standard-torch/venv/bin/python -m pytest tests/test_data.py -o addopts= -q

bench: $(READY) ## measure speed, in about five minutes; writes benchmarks/results.json
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS),bench]'
	dvc repro download
	python -m benchmarks.bench

docs: $(READY) ## update the numbers and tables in README.md and docs/ from the results
	@python -m stages.docs

# Run the pipeline in .work/NAME with the params of studies/NAME.yaml: a copy with its own results,
# report and dvc.lock, and the same store of finished runs, downloads, DVC cache and MLflow. Copies
# have no tables of other studies in results/: these belong to the main report.
define run_copy
	@mkdir -p .work/$(1)/.dvc/plots .work/$(1)/reports .work/$(1)/results .work/$(1)/benchmarks .cache .dvc/cache
	@rm -rf .work/$(1)/moe .work/$(1)/stages .work/$(1)/extensions .work/$(1)/reports/template
	@cp -R moe stages extensions dvc.yaml .dvcignore .work/$(1)/
	@cp -R reports/template .work/$(1)/reports/
	@cp .dvc/plots/* .work/$(1)/.dvc/plots/
	@cp studies/$(1).yaml .work/$(1)/params.yaml
	@cp benchmarks/results.json .work/$(1)/benchmarks/
	@for kept in confirm fashion routers; do mkdir -p .work/$(1)/results/$$kept \
	  && cp results/$$kept/README.md .work/$(1)/results/$$kept/; done
	@ln -sfn ../../.cache .work/$(1)/.cache
	@printf '[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n[cache]\n    dir = ../../../.dvc/cache\n    type = "hardlink,symlink,copy"\n' > .work/$(1)/.dvc/config
	@cd .work/$(1) && export MOE_BY_MAKE=1 && python -m stages.check && dvc repro $(2) && python -m stages.next_steps
endef
