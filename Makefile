PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))') # of tests: some of them wait
SOURCES := api worker difftune_core difftune cli migrations workbench benchmarks tests examples

.DEFAULT_GOAL := help
.PHONY: help install demo demo-controlnet up check test test-long test-fonts test-8bit test-services test-ceph compose-test e2e storm bench mutants schemas docs results study tiny-models clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing into $(VENV): some minutes, a gigabyte or two"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[core,api,cli,report,demo,heic,dev]'
	@touch $@

install: $(INSTALLED) ## make the virtual environment and install everything

demo: $(INSTALLED) ## fine-tune on handwritten digits through the real service, five to six minutes on 2 cores
	@$(BIN)/python -m cli demo --folder demo-run

demo-controlnet: $(INSTALLED) ## teach a ControlNet edges through the real service, at most eight minutes on 2 cores
	@$(BIN)/python -m cli demo-controlnet --folder demo-controlnet

up: $(INSTALLED) ## start the embedded service on this machine
	@$(BIN)/python -m cli up

check: $(INSTALLED) ## lint, types, import directions
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(INSTALLED) ## all tests that need nothing but Python
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist loadfile --no-loadscope-reorder -m 'not services and not ceph and not long and not fonts'

test-long: $(INSTALLED) ## the longest tests that need no server
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m 'long and not services'

test-fonts: $(INSTALLED) ## tests of the drawn letters (Debian: fonts-dejavu fonts-liberation fonts-freefont-ttf fonts-noto-core)
	$(BIN)/python -m pytest -q -m fonts tests/workbench

test-8bit: $(INSTALLED) ## the optimizer's moments in 8 bits, by torchao, which is installed for it
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[optim8bit]'
	$(BIN)/python -W 'ignore:invalid escape sequence' -m pytest -q -W 'ignore:invalid escape sequence' tests/core/train/test_blocks.py

test-services: $(INSTALLED) ## tests that start PostgreSQL, Redis and S3 servers (Debian: postgresql redis-server prometheus)
	@PYTHON=$(PYTHON) tests/install-swift
	$(BIN)/python -m pytest -q -m services tests/services/test_storm.py # nothing beside it: its leases are short
	$(BIN)/python -m pytest -q -n $(PROCESSES) --dist loadfile --no-loadscope-reorder -m services --ignore tests/services/test_storm.py

compose-test: $(INSTALLED) ## build the images, run the stack on a docker engine, kill a worker amid a job
	$(BIN)/python -m tests.compose.run

e2e: $(INSTALLED) ## use the dashboard in a real browser (Debian: chromium), five minutes; pictures in e2e-pictures/
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[e2e]'
	@PYTHON=$(PYTHON) tests/install-swift
	$(BIN)/python -m tests.browser e2e-pictures

test-ceph: $(INSTALLED) ## the store's tests on Ceph RGW (Debian: ceph-mon ceph-osd radosgw ceph-common)
	$(BIN)/python -m pytest -q -m ceph tests/storage

storm: $(INSTALLED) ## hundreds of jobs under hundreds of random faults, at most 25 minutes; needs PostgreSQL and Redis
	$(BIN)/python -m benchmarks.storm

bench: $(INSTALLED) ## our speed on a CPU beside plain ways to do the same, at most 15 minutes on 2 quiet cores
	@$(BIN)/python -m benchmarks.bench

mutants: $(INSTALLED) ## put faults into the code one at a time and count those that the tests notice; about an hour
	@$(BIN)/python -m tests.mutants

schemas: $(INSTALLED) ## write what the API and the reports publish, as docs/schemas has it, anew
	$(BIN)/python -m api.openapi > docs/schemas/openapi.json
	for name in report comparison chain; do $(BIN)/python -m difftune_core schema $$name > docs/schemas/$$name.schema.json || exit 1; done

docs: $(INSTALLED) ## build the documentation as a site, in build/site
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

results: $(INSTALLED) ## renew the tables of docs/results.md and draw its plots, from the kept runs
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[study]'
	$(BIN)/python -m workbench.study.results

study: $(INSTALLED) ## go on with the rows of workbench/study/PLAN.md that are missing, at the lowest priority; hours
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[study]'
	$(BIN)/python -m workbench.study
	$(BIN)/python -m workbench.study.analysis

tiny-models: $(INSTALLED) ## train the bundled models anew (four hours; needs the fonts named in workbench/tiny)
	$(BIN)/python -m workbench.tiny.train_autoencoder
	$(BIN)/python -m workbench.tiny.train_features
	$(BIN)/python -m workbench.tiny.train_dit
	$(BIN)/python -m workbench.tiny.make_card
	$(BIN)/python -m workbench.tiny.train_sd_autoencoder --out difftune_core/weights/tiny-sd/vae
	$(BIN)/python -m workbench.tiny.train_sd_text --out difftune_core/weights/tiny-sd
	$(BIN)/python -m workbench.tiny.train_sd --out difftune_core/weights/tiny-sd
	$(BIN)/python -m workbench.tiny.train_annotators --out difftune_core/weights
	$(BIN)/python -m workbench.tiny.make_sd_card

clean: ## remove the virtual environment and the demos' folders
	rm -rf $(VENV) demo-run demo-controlnet
