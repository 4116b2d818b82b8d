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
#   make mutants    the share of mutants of the update rules, schedules,
#                   selectors, optimizers and statistics that the tests kill
#   make lock       resolves all pins again, from pyproject.toml; ARGS=--upgrade
#                   takes the newest releases
#   make clean      removes .venv and all that was built

PYTHON ?=
ARGS ?=
# test-slow also installs PyTorch and timm, for the tests of that backend and
# of timm's optimizers: 0.7 GB where the index has a CPU build, several GB for
# CUDA's; UV_TORCH_BACKEND=cpu asks PyTorch's own index for the former, and
# `make test-slow TORCH=` skips both. It also uses PostgreSQL's programs
# (Debian: postgresql) and a browser (chromium, chromium-driver) where they are
# installed. Without them their tests are skipped, with the reason.
TORCH ?= yes
# Without what it depends on (torchvision): only its optimizers are used.
TIMM := timm==1.0.31

BIN := .venv/bin
UV := build/uv/bin/uv
FIND_PYTHON = PYTHON="$(PYTHON)" GOAL="$(MAKECMDGOALS)" sh tools/find_python
# The files with the longest tests have few of them: they are not to come last.
BOTH := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
# TensorFlow's warnings, but not its notes on how it was built.
TEST := TF_CPP_MIN_LOG_LEVEL=1 KERAS_BACKEND=tensorflow $(BIN)/python -m pytest

.DELETE_ON_ERROR:
.PHONY: setup compare test test-slow mutants lint docs notebooks audit lock \
  clean always

setup: .venv/.dev

compare: .venv/.study
	$(BIN)/tf-largebatch compare $(ARGS)

test: .venv/.dev
	$(TEST) -m "not slow" $(BOTH) $(ARGS)

test-slow: .venv/.dev
	@test -z "$(TORCH)" || { \
	  $(MAKE) --no-print-directory .venv/.torch && \
	  $(UV) pip install --quiet --python $(BIN)/python --no-deps $(TIMM); } \
	  || echo "PyTorch or timm is missing: their tests are skipped."
	$(TEST) -m slow $(BOTH) $(ARGS)

# Results are kept in mutants/ and not computed again. All mutants take hours;
# ARGS names some: "tf_largebatch.rules.*", or "*mutmut_*3" for a tenth. What
# runs when a module is imported is not mutated, for that is before the fork.
mutants: .venv/.dev
	TF_CPP_MIN_LOG_LEVEL=2 KERAS_BACKEND=tensorflow \
	  $(BIN)/mutmut run --max-children 2 $(ARGS)
	$(BIN)/mutmut results | grep -v ": not checked$$" || true

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

audit:
	-@python=$$($(FIND_PYTHON)) && "$$python" tools/install.py uv
	@python=$$($(FIND_PYTHON)) && "$$python" tools/audit.py constraints.txt

# The stamp of a set-up that is complete. Written by tools/install.py.
STAMPS := .venv/.study .venv/.dev .venv/.docs .venv/.torch
$(STAMPS): pyproject.toml setup.py constraints.txt build-constraints.txt
	@python=$$($(FIND_PYTHON)) && "$$python" tools/install.py $(@F:.%=%)

# A Python named by hand replaces the .venv of another.
ifneq "$(PYTHON)" ""
VERSION := -c "import sys; print(sys.hexversion >> 16)"
WANTED := $(shell "$(PYTHON)" $(VERSION) 2>&1 || true)
FOUND := $(shell $(BIN)/python $(VERSION) 2>&1 || true)
ifneq "$(WANTED)" "$(FOUND)"
$(STAMPS): always
endif
endif

# The pins hold for Python 3.11 to 3.13, on Linux and macOS; what sed strips
# from the markers is what all of them would say. PyTorch's newest releases
# need not have a build for each of these: `make lock ARGS="-P torch==2.13.0"`
# pins one by hand.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 \
  --no-annotate --no-header --no-emit-index-url $(ARGS)
SYSTEMS := sys_platform == 'darwin' or sys_platform == 'linux'
STRIP := sed -E -e "s/python_full_version < '3.14' and //" \
  -e "s/and python_full_version < '3.14' //" -e "s/ *(and|;) \($(SYSTEMS)\)//"
lock:
	@python=$$($(FIND_PYTHON)) && "$$python" tools/install.py uv
	$(COMPILE) --all-extras --group audit -o constraints.txt pyproject.toml \
	  >/dev/null
	$(COMPILE) --generate-hashes --group build -o build-constraints.txt \
	  >/dev/null
	echo uv | $(COMPILE) -o tools/uv.txt - >/dev/null
	for file in constraints.txt build-constraints.txt tools/uv.txt; do \
	  { echo "# Made by: make lock"; $(STRIP) $$file; } >build/pins && \
	  mv build/pins $$file || exit; \
	done

clean:
	rm -rf .venv build dist mutants *.egg-info .hypothesis .mypy_cache \
	  .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
