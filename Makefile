# laion-assets: `make demo` and `make test` set up everything they need. `make help` lists all targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3.11
# Another version of Python has an environment of its own: .venv-python3.12.
VENV := .venv$(addprefix -,$(filter-out python3 python3.11,$(notdir $(PYTHON))))
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
export NO_ALBUMENTATIONS_UPDATE := 1
export WANDB_MODE := disabled
# For 41,455 partitions: Dagster writes many events in one transaction and one planned event per run
# (docs/operations/production.md).
export DAGSTER_EVENT_BATCH_SIZE ?= 1000
export DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS ?= true

.PHONY: help demo serve dev setup clean \
	test test-slow lint test-browser test-scale test-cluster test-gpu test-bench test-kills test-backfill-kills test-postgres \
	test-containers test-apache test-proxy test-hostile soak audit \
	bench-images bench-pixels bench-dedup bench-embeddings bench-csv bench-graph bench-search \
	java nginx aria2c apache2 postgresql chromium iproute2 nftables

##@ Everyday

help: ## list all targets
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## run the whole pipeline on the embedded sample, offline
	$(BIN)/laion-assets demo

serve: setup ## serve search in the sample, at http://127.0.0.1:8000; runs the demo first if needed
	@test -e $${LAION_ASSETS_ROOT:-data}/sample/manifests/knn_indices || $(BIN)/laion-assets demo
	$(BIN)/laion-assets serve --dataset sample $(ARGS)

dev: setup ## start the Dagster UI with all datasets, and the daemon, at http://127.0.0.1:3000
	$(BIN)/laion-assets dev

setup: java $(READY) ## create .venv with the locked packages (PYTHON=python3.12: .venv-python3.12); find or install Java 17

$(READY): requirements.lock requirements-cpu.lock requirements-cuda.lock setup.cfg pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found. Install Python 3.11 or 3.12, or run: make PYTHON=/path/to/python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	@# torch for CPUs if pip is configured to find it, else the build of the index, with the CUDA libraries. Two separate
	@# steps: of two files with allowed hashes, pip prefers the one that an index lists, which is the one for CUDA.
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-cpu.lock 2>/dev/null \
	 || $(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements-cuda.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	@touch $@

clean: ## delete the sample and all test output; keeps .venv and the other datasets
	rm -rf data/sample artifacts .pytest_cache .mypy_cache .ruff_cache .hypothesis spark-warehouse build *.egg-info
	find dagster_home -mindepth 1 -not -name dagster.yaml -delete

##@ Checks (PYTEST="-k name" adds pytest options)

test: setup ## run the tests in three processes, because many wait (PYTEST="-n 0": in one)
	$(BIN)/python -m pytest -n 3 $(PYTEST)

test-slow: setup ## run the default suite's slow variants: retries on an object store, more adopted files, a transcript (4 minutes)
	$(BIN)/python -m pytest -m slow $(PYTEST)

lint: $(READY) ## run ruff (lint and format), mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

test-browser: setup chromium ## test the Dagster UI and the search page in Chromium; screenshots in artifacts/
	$(BIN)/python -m pytest -m browser $(PYTEST)

test-scale: setup ## test large inputs under memory limits (30 minutes on 2 cores)
	$(BIN)/python -m pytest -m scale --timeout 5400 $(PYTEST)

test-cluster: setup ## test Spark tasks on a standalone cluster: killed executors, GPU addresses, Ctrl-C
	$(BIN)/python -m pytest -m cluster $(PYTEST)

test-bench: setup nginx aria2c postgresql ## run each benchmark on small inputs (15 minutes)
	$(BIN)/python -m pytest -m bench $(PYTEST)

test-kills: setup ## kill -9 runs at random moments, KILLS=200 over shards and 50 over embedding files; SEED=N repeats a sequence (4 minutes)
	$(BIN)/python -m laion_assets_tests.kills.harness --kills $(or $(KILLS),200) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m laion_assets_tests.kills.embeddings --kills $(or $(KILLS),50) $(if $(SEED),--seed $(SEED))

test-backfill-kills: setup postgresql ## kill -9 run, daemon and web server KILLS=12 times during a backfill of the rehearsal (50 minutes)
	@test -d artifacts/rehearsal/sqlite || $(BIN)/python bench/graph.py --storages sqlite --peer 0 --folder artifacts/rehearsal --keep
	$(BIN)/python -m laion_assets_tests.kills.backfill --undisturbed artifacts/rehearsal/sqlite --kills $(or $(KILLS),12) $(if $(SEED),--seed $(SEED))

test-postgres: setup postgresql ## test Dagster and deploy/ on a real PostgreSQL, with killed services (8 minutes)
	$(BIN)/python -m pytest -m postgres $(PYTEST)

test-gpu: setup ## test that two GPUs write the bytes of one (needs two GPUs)
	$(BIN)/python -m pytest -m gpu $(PYTEST)

test-containers: setup ## test deploy/ in Docker: build the image, backfill the sample, replace a container (10 minutes)
	@docker compose version >/dev/null 2>&1 || { echo "Docker Compose 2 was not found. Install it: https://docs.docker.com/engine/install"; exit 1; }
	@docker info >/dev/null 2>&1 || { echo "The Docker daemon does not respond. Run docker info to see why."; exit 1; }
	$(BIN)/python -m pytest -m containers $(PYTEST)

test-apache: setup apache2 ## fetch a crawl from a real Apache: directory listings and ranges (1 minute)
	$(BIN)/python -m pytest -m apache $(PYTEST)

test-proxy: setup nginx ## test deploy/nginx.conf in a real nginx in front of a real web server (1 minute)
	$(BIN)/python -m pytest -m proxy $(PYTEST)

test-hostile: setup iproute2 nftables ## run a pipeline in a network namespace where DNS and every host attack (3 minutes)
	@unshare $$(test "$$(id -u)" = 0 || echo --map-root-user) --net --mount true || { echo "This machine does not allow network namespaces. Run make test-hostile as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1"; exit 1; }
	$(BIN)/python -m pytest -m hostile $(PYTEST)

soak: setup ## build shards for MINUTES=10, with hostile pages; fails if memory, threads or open files grow
	$(BIN)/python -m laion_assets_tests.soak.soak --minutes $(or $(MINUTES),10)

audit: ## check the locked packages against an advisory database, if one is reachable (docs/advisories.md)
	@test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit; }
	$(PYTHON) tools/audit.py --pip-audit .venv-audit/bin/pip-audit requirements.lock requirements-cuda.lock

##@ Benchmarks (ARGS=--help lists the options of one)

bench-images: setup nginx ## image shards against img2dataset: images/s and CPU over http and https (8 minutes)
	$(BIN)/python bench/images.py $(ARGS)

bench-pixels: setup ## scaled decoding: CPU time and similarity by size class, and the cost of the decoder process (4 minutes)
	$(BIN)/python bench/pixels.py $(ARGS)
	$(BIN)/python bench/decoder_process.py
	$(BIN)/python bench/large_images.py

bench-dedup: setup ## deduplication of 20 M rows against the recipe in the same Spark, and DuckDB (ARGS=--growth: 5 to 40 M rows)
	$(BIN)/python bench/dedup.py $(ARGS)

bench-embeddings: setup ## embeddings against clip-retrieval inference and the model alone (5 minutes)
	$(BIN)/python bench/embeddings.py $(ARGS)

bench-csv: setup nginx aria2c ## download of 20,000 small and 4 large CSV files against aria2c, killed and resumed
	$(BIN)/python bench/raw_csv.py $(ARGS)

bench-graph: setup postgresql ## cost of 41,455 partitions in Dagster: the rehearsal on SQLite and PostgreSQL (45 minutes)
	$(BIN)/python bench/graph.py $(ARGS)

bench-search: setup ## search service against clip-retrieval back: requests/s and latency, 50 clients for a minute (5 minutes)
	$(BIN)/python bench/search.py $(ARGS)

# Programs from Debian packages. Each is installed if make runs as root, else the command to install it is printed.
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
iproute2:
	@.ci/apt-install ip iproute2
nftables:
	@.ci/apt-install nft nftables
