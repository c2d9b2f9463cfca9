# Everything here is also a plain command; the README lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TASKS ?=

.PHONY: book site test test-long clean

book: $(VENV)/.book  ## run every notebook on the bundled tasks, then build the site
	$(BIN)/lottery run $(TASKS)
	$(MAKE) --no-print-directory site
	@echo
	@$(BIN)/lottery results
	@echo
	@echo "The book is at file://$(CURDIR)/_build/html/index.html"

site: $(VENV)/.book  ## build the site from the pages that are there, warnings as errors
	$(BIN)/jupyter-book build book --all -W -n --keep-going

test: $(VENV)/.test  ## check the code and run the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not long"

test-long: $(VENV)/.test  ## runs that are killed, starved and damaged, and grids of jobs, Slurm's too
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m long --durations=10

$(VENV)/.book: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[offline,book]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[offline,book,grid,test]'
	touch $@ $(VENV)/.book

clean:  ## remove the built site; runs and pages stay
	rm -rf _build
