# Everything here is also a plain command; the README lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TASKS ?= acceptability

.PHONY: book site test test-long clean env-book env-test

book: env-book  ## run every notebook on a generated task, then build the site; TASKS="..." for others
	"$(BIN)"/lottery run $(TASKS)
	$(MAKE) --no-print-directory site
	@echo
	@"$(BIN)"/lottery results
	@echo
	@"$(BIN)"/python -c "import pathlib as p; print('The book is at', p.Path('_build/html/index.html').absolute().as_uri())"

site: env-book  ## build the site anew from the pages that are there, warnings as errors
	rm -rf _build  # else pages stay that the book no longer has
	OMP_NUM_THREADS=1 "$(BIN)"/jupyter-book build book -W -n --keep-going

test: env-test  ## check the code and run the tests
	"$(BIN)"/ruff check
	"$(BIN)"/ruff format --check
	"$(BIN)"/lint-imports
	"$(BIN)"/mypy
	OMP_NUM_THREADS=1 "$(BIN)"/pytest -n 2 --dist loadfile -m "not long"

test-long: env-test  ## runs that are killed, starved and damaged, and the built site in a browser
	OMP_NUM_THREADS=1 "$(BIN)"/pytest -n 2 --dist loadfile -m long --durations=10

env-book: EXTRAS := offline,book
env-test: EXTRAS := offline,book,test
env-book env-test: env-%:
	@good='import sys, pip; sys.exit(sys.version_info < (3, 11))'; \
	if ! "$(BIN)/python" -c "$$good" 2>/dev/null; then \
	  "$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null || { \
	    echo "This needs Python 3.11 or later, which $(PYTHON) is not: name one, such as" \
	      "make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }; \
	  "$(PYTHON)" -m venv --clear "$(VENV)" || exit 1; \
	fi; \
	if [ -n "$$(find pyproject.toml constraints.txt -newer "$(VENV)/.$*" 2>&1)" ]; then \
	  echo "Installing packages into $(VENV), which takes minutes the first time."; \
	  "$(BIN)/python" -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]' || exit 1; \
	  touch "$(VENV)/.$*" "$(VENV)/.book"; \
	fi

clean:  ## remove the built site; runs and pages stay
	rm -rf _build
