# Sets up and runs everything in a virtual environment of its own, .venv,
# which the first target that needs it makes. Needs make and Python 3.11 to
# 3.13; `make PYTHON=/path/to/python3.12 ...` says which.
#
#   make compare    the paper's comparison, on this machine; `make compare
#                   ARGS="--table table2"` passes flags on
#   make test       all tests but the slow ones; ARGS goes to pytest
#   make test-slow  the slow ones
#   make lint       ruff and mypy
#   make docs       the documentation's site, in build/docs
#   make notebooks  runs those of examples/notebooks, writes their outputs
#   make audit      known vulnerabilities of the dependencies, if their data
#                   can be reached
#   make setup      .venv alone, with all that the targets above need
#   make lock       constraints.txt anew, from pyproject.toml; ARGS=--upgrade
#                   takes the newest releases
#   make clean      removes .venv and all that was built

PYTHON ?=
ARGS ?=
# What test-slow needs beside the rest: PyTorch (0.7 GB where pip finds a CPU
# build, several GB where it finds CUDA's), and timm, of which its optimizers
# alone are used; `make test-slow TORCH=` does without them and leaves their
# tests out. And a PostgreSQL server's programs, which the tests start on
# loopback (Debian: apt-get install postgresql), and a browser (chromium,
# chromium-driver), which looks at the report and at what `make docs` made; pip
# does not bring them, and without them their tests are left out, with the
# reason.
TORCH ?= torch==2.13.0
TIMM := timm==1.0.31
PIP = $(BIN)/python -m pip install --quiet --no-input \
  --disable-pip-version-check

BIN := .venv/bin
FIND_PYTHON = PYTHON="$(PYTHON)" GOAL="$(MAKECMDGOALS)" sh tools/find_python
# The files with the longest tests have few of them: they are not to come last.
BOTH := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# TensorFlow's warnings, but not its notes on how it was built.
TEST := TF_CPP_MIN_LOG_LEVEL=1 KERAS_BACKEND=tensorflow $(BIN)/python -m pytest

.DELETE_ON_ERROR:
.PHONY: setup compare test test-slow lint docs notebooks audit lock clean \
  always

setup: .venv/.dev

compare: .venv/.study
	$(BIN)/tf-largebatch compare $(ARGS)

test: .venv/.dev
	$(TEST) -m "not slow" $(BOTH) $(ARGS)

test-slow: .venv/.dev
	@test -z "$(TORCH)" || $(BIN)/python -m pip show -q torch timm \
	  2>/dev/null || { \
	  echo "Installing $(TORCH) and $(TIMM), once."; \
	  $(PIP) -c constraints.txt $(TORCH) && $(PIP) --no-deps $(TIMM) \
	  || echo "They cannot be installed: their tests are left out."; }
	$(TEST) -m slow $(BOTH) $(ARGS)

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Nothing is fetched: what a page would load from elsewhere ends the build, as
# every warning does.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict
	@echo "To look at: build/docs/index.html"

# ARGS are the names of some of them, such as compare.
notebooks: .venv/.dev
	$(BIN)/python tools/notebooks.py $(ARGS)

# It has an environment of its own, as what it needs is no business of .venv's.
AUDIT := build/audit
audit:
	@python=$$($(FIND_PYTHON)) && "$$python" -m venv $(AUDIT)
	@$(AUDIT)/bin/python tools/audit.py constraints.txt

# The stamp of a set-up that is complete. Written by tools/install.py.
.venv/.study .venv/.dev .venv/.docs: pyproject.toml setup.py constraints.txt
	@python=$$($(FIND_PYTHON)) && "$$python" tools/install.py $(@F:.%=%)

# A Python named by hand replaces the .venv of another.
ifneq "$(PYTHON)" ""
VERSION := -c "import sys; print(sys.hexversion >> 16)"
WANTED := $(shell "$(PYTHON)" $(VERSION) 2>&1)
FOUND := $(shell $(BIN)/python $(VERSION) 2>&1)
ifneq "$(WANTED)" "$(FOUND)"
.venv/.study .venv/.dev .venv/.docs: always
endif
endif

# The pins hold for Python 3.11 to 3.13, on Linux and macOS; what sed strips
# from the markers is what all of them would say. uv has an environment of its
# own, because pins that no longer fit would not let .venv be made.
UV := build/uv
SYSTEMS := sys_platform == 'darwin' or sys_platform == 'linux'
lock:
	@python=$$($(FIND_PYTHON)) && "$$python" -m venv $(UV)
	$(UV)/bin/python -m pip install --quiet --no-input \
	  --disable-pip-version-check uv
	$(UV)/bin/uv pip compile --quiet --universal --python-version 3.11 \
	  --all-extras --no-annotate --no-header --no-emit-index-url \
	  --output-file constraints.txt $(ARGS) pyproject.toml >/dev/null
	{ echo "# The versions that are installed, of every dependency of every"; \
	  echo "# extra, for Python 3.11 to 3.13. Made by: make lock"; \
	  sed -E -e "s/python_full_version < '3.14' and //" \
	    -e "s/and python_full_version < '3.14' //" \
	    -e "s/ *(and|;) \($(SYSTEMS)\)//" constraints.txt; } >$(UV)/pins
	mv $(UV)/pins constraints.txt

clean:
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache \
	  .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
