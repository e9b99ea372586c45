# Every target sets itself up: Python >= 3.11 and make are all it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test check format bench docs pictures clean help

help:     ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/: .*## /\t/' | expand -t 10

$(READY): pyproject.toml setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("layerscope needs Python 3.11 or newer; try: make PYTHON=python3.11") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev --group docs --editable '.[notebook]'
	@touch $@

demo: $(READY)   ## the bundled model, probed at every layer -> demo-report.html
	$(BIN)/layerscope demo --out demo-report.html

test: $(READY)   ## the whole test suite, one test per core at a time
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(ARGS)

check: $(READY)  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## format the code and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## every benchmark; figures go to benchmarks/results/
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file $(ARGS) || exit 1; done

docs: $(READY)   ## the site, into site/; a page out of the navigation or a dead link stops it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(READY) ## the figures of the docs pages, drawn again; ARGS="layer_skip probe" for some
	$(BIN)/python docs/make/figures.py $(ARGS)

clean:    ## everything that was built
	rm -rf $(VENV) build dist site *.egg-info src/*.egg-info demo-report.html
