# Every target sets up what it needs; `make demo` and `make test` are all that a new user types.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo demo-text test slow lint types boards site docs check release gpu clean

demo: $(READY)  ## train, unlearn, score and rank on real digits
	$(BIN)/msgm-bench run --dataset digits --forget 3,7 --backbone vesde \
		--method standard --method unseen --method ort --method obt --seed 0 \
		--executor local -x local.workers=2 --out runs/demo

demo-text: $(READY)  ## forget a concept of text-to-image models, attack it, and rank
	$(BIN)/msgm-bench run --dataset scenes --forget circle --backbone t2i --text \
		--method standard --method unseen --method uce --method ca --seed 0 \
		--executor local -x local.workers=2 --out runs/demo-text

test: $(READY)  ## all tests but the long ones
	$(BIN)/python -m pytest -q --numprocesses auto --dist loadfile

slow: $(READY)  ## tests of more than ten seconds: kills, clusters (Slurm and Ray where installed)
	$(BIN)/python -m pytest -q -m slow

lint: $(READY)  ## style, words and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python .ci/words.py

types: $(READY)  ## mypy, strict
	$(BIN)/mypy

boards: $(READY)  ## leaderboard pages are what their results say
	$(BIN)/msgm-bench board check

site: $(READY)  ## all leaderboards as one static site: build/site/index.html
	$(BIN)/msgm-bench board site build/site

docs: $(READY)  ## the documentation, into build/docs; a warning or a broken link is an error
	@$(BIN)/python -c 'import furo, myst_parser, sphinx, sphinx_click' 2>/dev/null || { \
		echo "make docs needs the extra [docs]: $(BIN)/python -m pip install --editable '.[docs]'"; exit 1; }
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs build/docs

check: lint types test boards docs  ## all that CI runs

release: $(READY)  ## sdist and wheel in dist/, built and checked
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"msgm-bench needs Python 3.11 or newer, {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

gpu: $(READY)  ## tests, benchmarks, profile, demo and a small board on a CUDA device: runs/gpu/report.md
	$(BIN)/python benchmarks/gpu.py

clean:  ## everything that can be made again
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
