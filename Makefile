# Two commands matter: `make book` and `make test`. Each does its own set-up in .venv and needs Python 3.11+ only.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
RUN    := OMP_NUM_THREADS=1 $(BIN)/python -m
BOOK   := _build/html/index.html
NOTEBOOKS := $(words $(wildcard book/*.ipynb book/howto/*.ipynb))
SAY    := @printf '\n==> %s\n'

.DEFAULT_GOAL := help
.PHONY: help .say_book .say_test book test notebooks pdf slides serve lint clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: .say_book $(VENV)/.book  ## install what the book needs, run its notebooks and build it
	$(SAY) "Building the book (strict: any warning is an error)"
	$(RUN) tools.book
	$(SAY) "The book is ready: open $(BOOK)"

test: .say_test $(VENV)/.test  ## install what the tests need and run every test
	$(SAY) "Running every test: unit, doctest, notebook, architecture, book and site"
	$(RUN) pytest -n 2
	$(SAY) "All tests passed. The site they checked: $(BOOK)"

.say_book:
	$(SAY) "make book installs packages into $(VENV) (2.3 GB of disk, once), runs $(NOTEBOOKS) notebooks and writes the pages \
	into _build (0.2 GB): on two cores about 6 minutes the first time, seconds when nothing has changed."

.say_test:
	$(SAY) "make test installs packages into $(VENV) (2.3 GB of disk, once), builds the book unless it is built, and runs \
	every test: on two cores about 6 minutes, and 5 more for the book. The tests of the pages need Chromium and its driver."

notebooks: $(VENV)/.book  ## run every notebook from a clean kernel and store its outputs
	$(SAY) "Executing the notebooks in place"
	$(RUN) tools.execute_notebooks

pdf: book $(VENV)/.test  ## print the whole book into one PDF (needs Chromium)
	$(BIN)/python -m tools.make_pdf

slides: book $(VENV)/.test  ## make slides of each chapter's figures and questions, for lectures
	$(BIN)/python -m tools.make_slides

serve: book  ## build the book and serve it on this machine
	$(SAY) "Serving on http://localhost:8000 (Ctrl-C ends it)"
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

lint: $(VENV)/.dev  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove what was built, and the environment
	rm -rf _build $(VENV) dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per set of packages: installed again only when its list changes.
$(VENV)/.%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(SAY) "Installing bnlab with its '$*' packages into $(VENV)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "bnlab needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(SAY) "Creating a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
