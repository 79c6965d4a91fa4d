# Every target that needs it sets up .venv by itself, again when pyproject.toml or constraints.txt
# changed. pip's own settings (index, constraints, cache) are honoured, so a CPU-only torch is a
# matter of PIP_INDEX_URL or PIP_EXTRA_INDEX_URL.

SHELL := /bin/bash
BIN := $(CURDIR)/.venv/bin
READY := .venv/.ready
# Of pyproject.toml: dev, ray (more than one machine), bench (peers to measure against)
EXTRAS ?= dev
# Stages are `python -m ...` and MLflow starts others: all of them have to be those of .venv.
export PATH := $(BIN):$(PATH)
export MLFLOW_TRACKING_URI ?= sqlite:///$(CURDIR)/mlflow.db
export DO_NOT_TRACK := 1

.DEFAULT_GOAL := help
.PHONY: help setup check demo repro study routers report ui track test test-browser test-faults bench readme lint format clean clean-cache cache

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## create or update .venv

$(READY): pyproject.toml constraints.txt $(wildcard setup.py moe/engine/kernel.c)
	test -x $(BIN)/python || python3 -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

check: $(READY) ## say what is wrong with params.yaml, if anything
	@python -m stages.check

repro: check ## the study of params.yaml: train, evaluate, analyze, report, track
	dvc repro

demo: $(READY) ## the whole pipeline in about a minute, on 5,000 embedded images, in .work/demo
	$(call copy_of_pipeline,demo)
	cd .work/demo && python -m stages.check && dvc repro
	@echo "the report: .work/demo/reports/index.html    the runs: make ui"

study: $(READY) ## the study with 20 seeds everywhere, in .work/study
	$(call copy_of_pipeline,study)
	cd .work/study && python -m stages.check && dvc repro
	@echo "the report: .work/study/reports/index.html    the runs: make ui"

routers: $(READY) ## every recipe side by side, in .work/routers; its table goes to results/
	$(call copy_of_pipeline,routers)
	cd .work/routers && python -m stages.check && dvc repro
	cp .work/routers/results/runs.csv results/routers.csv
	@echo "results/routers.csv is new: make report shows it"

report: check ## render the report from the tables in results/, without training
	dvc repro --single-item --force report

track: check ## bring MLflow up to date with the results
	dvc repro --single-item --force track

ui: $(READY) ## compare the runs in MLflow, on http://127.0.0.1:5000
	@# By the environment: a command line, and what is said of a wrong one, shows its password.
	@case "$$MLFLOW_TRACKING_URI" in http*) \
	  echo "MLFLOW_TRACKING_URI names a server: open its address in a browser" >&2; exit 2;; esac; \
	  MLFLOW_BACKEND_STORE_URI="$$MLFLOW_TRACKING_URI" mlflow ui --host 127.0.0.1 --port 5000

test: $(READY) ## the tests
	pytest -n 2 --dist loadfile

test-browser: $(READY) ## the report and the explorer in a real browser
	pytest tests/browser -o addopts=

test-faults: $(READY) ## killed 30 times, at random moments of every stage; SEED=... repeats a run
	SEED=$(SEED) COPIES=$(COPIES) pytest tests/faults -o addopts= -rA -s

bench: $(READY) ## our engines beside their peers, in one run of about five minutes; benchmarks/results.json
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS),bench]'
	dvc repro download
	python -m benchmarks.bench

readme: $(READY) ## bring README.md's numbers and table of claims up to date with the results
	@python -m stages.readme

lint: $(READY) ## ruff and pyright
	ruff check .
	ruff format --check .
	pyright --level error

format: $(READY) ## let ruff put the code in order
	ruff check --fix .
	ruff format .

cache: $(READY) ## what the store of finished runs holds; sizes of the store, weights/ and DVC's cache
	@python -m stages.cache

clean: ## remove copies of the pipeline and what tools leave behind, never results
	rm -rf .work build *.egg-info .pytest_cache .ruff_cache .hypothesis dvc_plots

clean-cache: ## empty the store of finished runs
	rm -rf .cache/shards

# A copy of the pipeline in .work/NAME with the params of studies/NAME.yaml: its own results, report
# and dvc.lock; the same store of finished runs, downloads, DVC cache and MLflow. The study of the
# routers is the main report's alone: copies have its table empty.
define copy_of_pipeline
	mkdir -p .work/$(1)/.dvc/plots .work/$(1)/reports .cache .dvc/cache
	rm -rf .work/$(1)/moe .work/$(1)/stages .work/$(1)/extensions .work/$(1)/reports/template
	cp -R moe stages extensions dvc.yaml .dvcignore .work/$(1)/
	cp -R reports/template .work/$(1)/reports/
	cp .dvc/plots/* .work/$(1)/.dvc/plots/
	cp studies/$(1).yaml .work/$(1)/params.yaml
	mkdir -p .work/$(1)/results .work/$(1)/benchmarks
	cp benchmarks/results.json .work/$(1)/benchmarks/
	head -n 1 results/routers.csv > .work/$(1)/results/routers.csv
	ln -sfn ../../.cache .work/$(1)/.cache
	printf '[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n[cache]\n    dir = ../../../.dvc/cache\n    type = "hardlink,symlink,copy"\n' > .work/$(1)/.dvc/config
endef
