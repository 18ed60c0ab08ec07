# Two commands set everything up on a fresh Debian or Ubuntu machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE ?= demo_store
PIP = $(BIN)/python -m pip install --no-deps --require-hashes --disable-pip-version-check --progress-bar off

.PHONY: demo test test-fast test-containers lint docs reference clean image sif
.DEFAULT_GOAL := demo

# The whole, hash-locked set of packages, so that nothing is resolved or guessed: by uv, itself from that set, in a
# quarter of pip's time; by pip where uv does not reach an index, since it does not read pip's settings.
$(VENV)/installed: requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: name one with PYTHON=..., as in make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no virtual environment could be made: apt-get install python3-venv" >&2; exit 1; }
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.lock >$(VENV)/uv.lock
	$(PIP) -q -r $(VENV)/uv.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --require-hashes -q -r requirements-dev.lock || \
		$(PIP) -q -r requirements-dev.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation --disable-pip-version-check -q --editable .
	@touch $@

demo: $(VENV)/installed  ## a whole cell and its floors on patches of photographs, in a few minutes
	$(BIN)/dae-ssl data photographs --store $(STORE)
	$(BIN)/dae-ssl run method=dae method.embedding=l2 method.alpha=1 --scale demo --store $(STORE)

test: $(VENV)/installed lint  ## everything, as CI runs it
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-fast: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow"

# Real images, built and run; needs root and buildah podman runc mmdebstrap. Quick where pip knows a PyTorch for CPUs;
# DAE_SSL_LOCK=requirements.lock builds what is shipped, with CUDA, in 7 GB.
test-containers: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m container -rs tests/whole/test_containers.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/installed  ## the site of these pages, build/docs/index.html; strict: no broken link, no warning
	$(BIN)/sphinx-build -q -E -W -n --keep-going -c docs -d build/doctrees . build/docs
	@echo "$(CURDIR)/build/docs/index.html"

reference: $(VENV)/installed  ## docs/reference, generated from the code
	$(BIN)/python -m docs.generate

ENGINE ?= docker
REQUIREMENTS ?= requirements.lock
CODE = dae_ssl jobs slurm hydra_plugins
COMMIT = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)$(shell git status --porcelain -- $(CODE) 2>/dev/null | grep -q . && echo -modified)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
ARGUMENTS = --build-arg REQUIREMENTS=$(REQUIREMENTS) --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT)

image:  ## the Docker image; ENGINE=podman too, REQUIREMENTS=requirements-cuda12.lock for older drivers
	$(ENGINE) build $(ARGUMENTS) -t dae_ssl .

sif:  ## the Apptainer image
	apptainer build $(ARGUMENTS) dae_ssl.sif apptainer.def

.PHONY: lock
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet --no-annotate --no-header
lock:  ## resolve pyproject.toml anew: what images have, the same with CUDA 12 for older drivers, and with the tools of developers
	$(COMPILE) --extra dev -o requirements-dev.lock
	sed -E '/^ +--hash/d; s/ \\$$//' requirements-dev.lock | $(COMPILE) --extra image -c - -o requirements.lock
	echo 'torch<2.11' | $(COMPILE) --extra image -c - -o requirements-cuda12.lock

clean:
	rm -rf $(VENV) demo_store build
