# The targets set up what they need: .venv is made once, and again when pyproject.toml or the pins change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint typecheck check bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(STAMP)  ## make .venv and install semsearch with the bundled model into it

# torch comes first: resolved among the others, its newest release would bring several GB of CUDA along.
$(STAMP): pyproject.toml tests/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint tests/constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint tests/constraints.txt --editable '.[bundled,dev]'
	@touch $@

demo: $(STAMP)  ## index tests/corpus/ and ask it three questions
	$(BIN)/semsearch index tests/corpus --name demo
	$(BIN)/semsearch query "how to repair a leaky faucet" -i demo -k 3
	$(BIN)/semsearch query "concurrency bugs in parallel software" -i demo -k 3
	$(BIN)/semsearch query "remedies for allergies" -i demo -k 3
	@echo "See it in a browser, at http://127.0.0.1:8765:  $(BIN)/semsearch serve -i demo"

test: $(STAMP)  ## run the tests
	$(BIN)/python -m pytest -m "not alone" -n 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest -m alone

lint: $(STAMP)  ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

check: lint typecheck test  ## what CI runs

bench: $(STAMP)  ## speed and memory, as ratios to peers measured in the same run
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint tests/constraints.txt --editable '.[bench]'
	$(BIN)/python tests/benchmarks/startup.py
	$(BIN)/python tests/benchmarks/cold_query.py
	$(BIN)/python tests/benchmarks/encode.py
	$(BIN)/python tests/benchmarks/memory.py
	$(BIN)/python tests/benchmarks/updates.py
	$(BIN)/python tests/benchmarks/scale.py --sizes 10000 60000
	$(BIN)/python tests/benchmarks/search.py --sizes 10000 60000
	$(BIN)/python tests/benchmarks/serving.py --requests 4000
	$(BIN)/python tests/benchmarks/page.py

clean:  ## remove caches and build products, never indexes/
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find semsearch tests -name __pycache__ -type d -prune -exec rm -rf {} +
