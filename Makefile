# laion-assets: `make demo` and `make test` do all the set-up they need. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
export NO_ALBUMENTATIONS_UPDATE := 1
export WANDB_MODE := disabled
# Dagster at 41,455 partitions: one transaction for many events, one planned event a run (docs/operations/production.md).
export DAGSTER_EVENT_BATCH_SIZE ?= 1000
export DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS ?= true

.PHONY: nginx aria2c apache2 postgresql chromium test-apache test-postgres bench-csv test-containers test-cluster test-bench test-kills test-backfill-kills bench-graph soak bench-dedup bench-images bench-pixels bench-embeddings help setup java demo test test-scale test-browser dev lint clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: java $(READY) ## virtual environment in .venv with the locked packages; Java 17 is looked for

$(READY): requirements.lock requirements-cpu.lock requirements-cuda.lock setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: $(PYTHON) was not found. Install it, or say make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	@# torch for CPUs where pip is configured to find it, else the index's own, with the libraries of CUDA. One after the
	@# other: of two files that hashes allow, pip prefers the one that an index lists, which is the one for CUDA.
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-cpu.lock 2>/dev/null \
	 || $(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-cuda.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

.PHONY: audit
audit: ## the locked packages against an advisory database, where one is reachable (docs/advisories.md)
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit; }
	$(PYTHON) tools/audit.py --pip-audit .venv-audit/bin/pip-audit requirements.lock requirements-cuda.lock

# Programs that Debian has: each is installed where make runs as root, else named.
java:
	@.ci/apt-install java openjdk-17-jre-headless
nginx:
	@.ci/apt-install nginx nginx-light
aria2c:
	@.ci/apt-install aria2c aria2
apache2:
	@.ci/apt-install apache2 apache2-bin
postgresql:
	@.ci/apt-install initdb postgresql
chromium:
	@.ci/apt-install chromium chromium

demo: setup ## the whole graph on the embedded sample, offline
	$(BIN)/laion-assets demo

test: setup ## the tests, in two processes (PYTEST="-n 0" for one)
	$(BIN)/python -m pytest -n 2 $(PYTEST)

test-scale: setup ## large inputs under memory caps (about half an hour on 2 cores)
	$(BIN)/python -m pytest -m scale --timeout 5400 $(PYTEST)

test-cluster: setup ## Spark tasks on a standalone cluster, executors killed (about 3 minutes)
	$(BIN)/python -m pytest -m cluster $(PYTEST)

test-bench: setup nginx aria2c postgresql ## each benchmark as a whole, in small (about a quarter of an hour, mostly the daemon's ticks)
	$(BIN)/python -m pytest -m bench $(PYTEST)

test-kills: setup ## KILLS=200 kills (-9) at random moments over a set of shards, SEED=... repeats one (about 2 minutes)
	$(BIN)/python -m laion_assets_tests.kills.harness --kills $(or $(KILLS),200) $(if $(SEED),--seed $(SEED))

test-backfill-kills: setup postgresql ## KILLS=12 kills (-9) of run, daemon and web server while the rehearsal is backfilled (about half an hour, after 18 minutes for the undisturbed one)
	@test -d artifacts/rehearsal/sqlite || $(BIN)/python bench/graph.py --storages sqlite --peer 0 --folder artifacts/rehearsal --keep
	$(BIN)/python -m laion_assets_tests.kills.backfill --undisturbed artifacts/rehearsal/sqlite --kills $(or $(KILLS),12) $(if $(SEED),--seed $(SEED))

soak: setup ## shards again and again for MINUTES=10, hostile pages included: fails when memory, threads or files grow
	$(BIN)/python -m laion_assets_tests.soak.soak --minutes $(or $(MINUTES),10)

test-postgres: setup postgresql ## Dagster's storage on a real PostgreSQL, and deploy/ over it, its services killed (about 8 minutes)
	$(BIN)/python -m pytest -m postgres $(PYTEST)

test-containers: setup ## deploy/ in Docker: its image built, the sample backfilled, a container replaced meanwhile (about 10 minutes)
	@docker compose version >/dev/null 2>&1 || { echo "Docker with Compose 2 is missing: https://docs.docker.com/engine/install"; exit 1; }
	@docker info >/dev/null 2>&1 || { echo "Docker's daemon does not answer: docker info says why."; exit 1; }
	$(BIN)/python -m pytest -m containers $(PYTEST)

test-apache: setup apache2 ## a crawl fetched from a real Apache: its directory pages, Range (about a minute)
	$(BIN)/python -m pytest -m apache $(PYTEST)

.PHONY: test-proxy
test-proxy: setup nginx ## deploy/nginx.conf in a real nginx before a real web server (about a minute)
	$(BIN)/python -m pytest -m proxy $(PYTEST)

.PHONY: iproute2 nftables test-hostile
iproute2:
	@.ci/apt-install ip iproute2
nftables:
	@.ci/apt-install nft nftables
test-hostile: setup iproute2 nftables ## a pipeline in a network namespace where DNS and every host attack (about 3 minutes)
	@unshare $$(test "$$(id -u)" = 0 || echo --map-root-user) --net --mount true || { echo "This machine does not allow a network namespace: run make test-hostile as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)."; exit 1; }
	$(BIN)/python -m pytest -m hostile $(PYTEST)

test-browser: setup chromium ## the Dagster page in Chromium, screenshots in artifacts/
	$(BIN)/python -m pytest -m browser $(PYTEST)

dev: setup ## the Dagster page over all datasets at http://127.0.0.1:3000, daemon included
	$(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port 3000

lint: $(READY) ## ruff (lint and format) and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-images: setup nginx ## image shards against img2dataset: images/s and CPU over http and https, about 8 minutes (ARGS=--help)
	$(BIN)/python bench/images.py $(ARGS)

bench-pixels: setup ## scaled decoding: CPU and likeness by size class, about 4 minutes; and the cost of the decoder's process
	$(BIN)/python bench/pixels.py $(ARGS)
	$(BIN)/python bench/decoder_process.py
	$(BIN)/python bench/large_images.py

bench-dedup: setup ## deduplication of 20 M rows against the recipe's, in the same Spark, and DuckDB (ARGS=--growth: 5 to 40 M)
	$(BIN)/python bench/dedup.py $(ARGS)

bench-embeddings: setup ## embeddings against clip-retrieval's inference and the model alone, about 5 minutes (ARGS=--help)
	$(BIN)/python bench/embeddings.py $(ARGS)

bench-csv: setup nginx aria2c ## fetching 20,000 small and 4 large CSV files against aria2c, killed and resumed (ARGS=--help)
	$(BIN)/python bench/raw_csv.py $(ARGS)

bench-graph: setup postgresql ## what 41,455 partitions cost Dagster: the rehearsal on SQLite and PostgreSQL, about 45 minutes (ARGS=--help)
	$(BIN)/python bench/graph.py $(ARGS)

clean: ## remove what the sample and the tests made; keeps .venv and the data of other datasets
	rm -rf data/sample artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse build *.egg-info
	find dagster_home -mindepth 1 -not -name dagster.yaml -delete
