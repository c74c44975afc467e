# Every target starts from a bare clone: the virtual environment is made when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup flywheel test lint bench docs dist lowest newest clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## Create .venv with everything installed

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

flywheel: setup  ## Run the whole flywheel on the embedded data set, print its results and make a page of them
	$(BIN)/python -m matwheel.fit fit --config configs/flywheel/full.yaml
	$(BIN)/python -m matwheel.report runs/mp_poly_total-flywheel --out runs/mp_poly_total-flywheel/report.html

test: setup  ## Run all checks of behaviour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: setup  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## Measure speed and write benchmarks/latest.json
	$(BIN)/python -m benchmarks.run

docs: setup  ## Build the documentation in site/; a broken link is an error
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

dist: setup  ## Build an sdist and a wheel, with data and configs inside, in dist/
	$(BIN)/python -m build

lowest: setup  ## Run the tests with the lowest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --seed .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable ".[dev]"
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -n 2

newest: setup  ## Run the tests with the newest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --clear --seed .venv-newest
	$(BIN)/uv pip install --quiet --python .venv-newest --upgrade --editable ".[dev]"
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -n 2

clean:  ## Remove the environment and all caches of the checkout
	rm -rf $(VENV) .venv-lowest .venv-newest build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
