# `make search` and `make test` do all of their own set-up: a virtual environment in .venv, made with pip.
PYTHON ?= python3
RUN ?=
DATASET ?= cifar10
BIN := .venv/bin

.PHONY: search lab inspect picture test hooks benchmark benchmark-inspectors gain gpu-kit docs clean

search: .venv/installed
	@$(BIN)/setn-lab search --preset quick --notebook reports/runs/search.ipynb

lab: .venv/installed
	@$(BIN)/setn-lab lab

# The inspectors of the run folder RUN, or of the newest search, as a page: on this machine alone, behind a token.
inspect: .venv/installed
	@$(BIN)/setn-lab inspect $(if $(RUN),"$(RUN)")

# The documentation as a site, in build/site/index.html. Warnings are errors, of all pages, so none is left from the last time.
docs: .venv/installed-docs
	$(BIN)/sphinx-build --fail-on-warning --keep-going --fresh-env -q -c docs . build/site

# The README's picture of the inspectors, of the run folder RUN.
picture: .venv/installed-dev
	$(BIN)/python docs/pictures.py "$(RUN)"

test: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal -m 'not ray' $(PYTEST_ARGS)
	$(BIN)/pytest -m ray $(PYTEST_ARGS)

# What `git commit` checks from now on; see .pre-commit-config.yaml.
hooks: .venv/installed-dev
	$(BIN)/pre-commit install

# Speed of every step; DATASET holds 32x32 colour images, for the racing row.
benchmark: .venv/installed
	$(BIN)/python benchmarks/speed.py --dataset "$(DATASET)"

# Speed and memory of the inspectors.
benchmark-inspectors: .venv/installed
	$(BIN)/python benchmarks/inspectors.py

# What the evaluator gains on the quick preset over three seeds.
gain: .venv/installed-dev
	$(BIN)/python benchmarks/evaluator_gain.py

# What benchmarks/gpu.py needs on a machine with a GPU and without network, in one folder; DATASET is a folder of images.
gpu-kit: .venv/installed
	$(BIN)/python benchmarks/gpu_kit.py "$(DATASET)" gpu-kit

.venv/installed: pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@echo 'installing into .venv, which takes some minutes'
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[notebooks]'
	@touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv/installed-docs: .venv/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv
