# Every habit of the project is a target here; continuous integration calls the same ones.
# `make` alone lists them.

VENV := .venv
PY := $(VENV)/bin/python
GLIDE := $(VENV)/bin/glide

# The one release of torch that this project is tested with; the Dockerfile has the same pin.
TORCH := torch==2.13.0
# Where torch alone is installed from, as pip's --index-url. Empty: from pip's usual index, whose
# Linux wheels carry CUDA and weigh gigabytes. pytorch.org names an index of small CPU-only wheels.
TORCH_INDEX_URL ?=

PROMPT ?= a red apple to the left of a cat on the grass
PORT ?= 8000
MINUTES ?= $(if $(TINY),2,25)

# A prompt is the user's own text: `value` keeps a $ in it from make, and the environment keeps the
# rest of it from the shell.
override PROMPT := $(value PROMPT)
export PROMPT

# A new pin or a newer pyproject.toml makes the stamps stale, and nothing else does.
RUNTIME := $(VENV)/.runtime-$(subst ==,-,$(TORCH))
DEV := $(VENV)/.dev-$(subst ==,-,$(TORCH))
RUNTIME_EXTRAS := embedded,worker

# torch goes first, from its own index; what depends on it then finds it already there.
define pip-install
$(PY) -m pip install --disable-pip-version-check \
	$(if $(TORCH_INDEX_URL),--index-url "$(TORCH_INDEX_URL)") $(TORCH)
$(PY) -m pip install --quiet --disable-pip-version-check --editable ".[$(1)]"
endef

.PHONY: help install demo serve test test-all test-clients check fmt gpu bench up lock clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

install: $(DEV)  ## Make the environment .venv with everything in it.

demo: $(RUNTIME)  ## Make one picture of PROMPT="…" through the whole service, into out/.
	@$(GLIDE) demo -o out -- "$$PROMPT"

serve: $(RUNTIME)  ## Run everything on this machine, on PORT=8000.
	@$(GLIDE) serve --port $(PORT)

test: $(DEV)  ## Run the tests, without the slow ones.
	$(PY) -m pytest -m "not slow"

test-all: $(DEV)  ## Run all tests.
	$(PY) -m pytest

test-clients: $(DEV)  ## Run the clients people already have, and the examples of docs/api.md.
	$(PY) -m pytest tests/clients tests/docs

check: $(DEV)  ## Check format, lint, types and the order of imports.
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fmt: $(DEV)  ## Format, and mend what the linter can mend.
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

gpu: $(DEV)  ## Everything worth doing with MINUTES=25 on a GPU; TINY=1 rehearses it on a CPU.
	[ -e runs/gpu/sprites.npz ] || $(PY) -m benchmarks.gpu prepare
	$(PY) -m benchmarks.gpu run --minutes $(MINUTES) $(if $(TINY),--tiny)

bench: $(DEV)  ## Measure serving, fairness and the API's front (needs wrk), into benchmarks/results/.
	$(PY) -m benchmarks.serving
	$(PY) -m benchmarks.fairness
	$(PY) -m benchmarks.api

up:  ## Build the images and run redis, api and worker with Docker Compose.
	docker compose up --build --detach --wait

lock: $(RUNTIME)  ## Pin again what the images install.
	$(PY) docker/lock.py

clean:  ## Remove what the other targets made, except .venv and data/.
	rm -rf out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(RUNTIME): pyproject.toml | $(PY)
	@echo "Installing; the first time takes a few minutes."
	@$(call pip-install,$(RUNTIME_EXTRAS))
	@touch $@

$(DEV): pyproject.toml | $(PY)
	@echo "Installing; the first time takes a few minutes."
	@$(call pip-install,dev)
	@touch $(RUNTIME) $@

# PYTHON=… chooses the interpreter; otherwise the first that is new enough.
$(PY):
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
			echo "error: $$python cannot make environments: it lacks venv or ensurepip (Debian, Ubuntu: apt-get install python3-venv)" >&2; exit 1; \
		fi; \
		exec "$$python" -m venv $(VENV); \
	done; \
	echo "error: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1
