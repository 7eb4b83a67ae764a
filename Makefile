# The two commands are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3.11
.DEFAULT_GOAL := help
.PHONY: help demo test test-long check format bench bench-images bench-registry bench-artifacts bench-serving parts clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t14

.venv/.synced: uv.lock pyproject.toml $(wildcard packages/*/pyproject.toml)
	@$(PYTHON) scripts/bootstrap.py
	@touch $@

demo: .venv/.synced ## Start Merlin, log a real model, build its image, deploy it, call it
	@.venv/bin/python scripts/demo.py

parts: .venv/.synced ## Install the real parts the tests run against (needs root for Debian packages)
	@.venv/bin/python scripts/parts.py

check: .venv/.synced ## Lint, types and import rules
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy && .venv/bin/lint-imports

test: parts check ## Everything: checks, then all tests against the real parts
	@.venv/bin/pytest -m "not long"

test-long: parts ## The long schedules: more kills, more seeds
	@.venv/bin/pytest -m long

bench: bench-images bench-registry bench-artifacts bench-serving ## Benchmarks beside peers, measured in the same run

bench-images: parts ## Image builds beside buildah
	@.venv/bin/python -m benchmarks.images

bench-registry: parts ## Pushing and pulling beside skopeo
	@.venv/bin/python -m benchmarks.registry

bench-artifacts: .venv/.synced ## Files of runs from and to S3 beside MLflow and boto3
	@.venv/bin/python -m benchmarks.artifacts

bench-serving: .venv/.synced ## The model server beside its peers from PyPI
	@.venv/bin/python -m benchmarks.serving

format: .venv/.synced ## Format the code
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

clean: ## Remove what make installed
	rm -rf .venv .parts .merlin
