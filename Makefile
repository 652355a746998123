# make book   set up, execute the chapters, build the book
# make test   set up, check the style, run the tests and the chapters
# Needs Python 3.11 or newer and make. Everything else goes into .venv.

PYTHON ?= python3
# An index to take torch from, e.g. the CPU builds for Linux (see the README). Empty: pip's own.
TORCH_INDEX ?=
# Options of the benchmarks, e.g. --quick.
BENCH ?=

SHELL := /bin/bash
PY := .venv/bin/python
PIP := $(PY) -m pip install -qq --no-compile --disable-pip-version-check
PYTEST := $(PY) -m pytest -p no:cacheprovider
READY := .venv/ready

# One thread a process: two processes share a laptop, and sums keep their order.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export NUMBA_NUM_THREADS := 1
# Notebooks show no progress here: it would be compared with their stored outputs.
export SNNREPRO_QUIET := 1
# numba does not notice changes in functions called from other files: `fresh` empties its cache. (Outside make, the runner gives
# each state of the kernels a folder of its own.)
export NUMBA_CACHE_DIR := $(CURDIR)/.venv/numba-cache
# Many short processes import torch, Brian2 and SymPy: without byte code on disk, each spends seconds on reading their sources.
export PYTHONDONTWRITEBYTECODE :=

# $(call step,what,command): say it, do it, say how long it took; a failure names the step.
define step
@echo "==> $(1)"; start=$$SECONDS; if ( $(2) ); then echo "    done in $$((SECONDS - start)) s"; \
	else echo "make: '$(1)' failed after $$((SECONDS - start)) s" >&2; exit 1; fi
endef

.NOTPARALLEL:
.PHONY: help setup fresh book html test site bench mutants mutants-ci clean

help:
	@echo "make book        set up, execute all chapters (one to two minutes each), build the book"
	@echo "make setup       the environment alone, in .venv"
	@echo "make html        build the book from the committed notebooks, warnings are errors"
	@echo "make test        style, unit tests, every chapter against its stored outputs, figure data"
	@echo "make site        scan the built book for anything it would load from outside"
	@echo "make bench       the same work here and in other libraries (about 20 minutes; BENCH=--quick: a smoke run)"
	@echo "make mutants     put each listed fault into a copy and report which test notices (mutants-ci: a few of each method)"
	@echo "make clean       remove what was built; keeps .venv and the recorded seeds in .runs"
	@echo "variables        PYTHON=$(PYTHON)  TORCH_INDEX=$(TORCH_INDEX)"

# The stamp holds the Python, a checksum of what is installed, and the folder. It is written last: a half-made .venv has none and is
# made again, as is one that was moved or copied here: its scripts name the folder they were made in.
setup:
	@set -e -o pipefail; \
	version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || \
		{ echo "make: no Python at PYTHON=$(PYTHON)" >&2; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed, $(PYTHON) is $$version; name one with PYTHON=..." >&2; exit 1; }; \
	key="$$version $$(cat requirements.txt requirements.lock pyproject.toml | cksum) $(CURDIR)"; \
	if [ "$$(cat $(READY) 2>/dev/null)" = "$$key" ] && $(PY) -c '' 2>/dev/null; then exit 0; fi; \
	start=$$SECONDS; list=requirements.txt; if [ "$$version" = 3.11 ]; then list=requirements.lock; fi; \
	old=$$(cut -d' ' -f1 $(READY) 2>/dev/null || true); rm -f $(READY); \
	if [ "$$old" != "$$version" ] || ! $(PY) -c '' 2>/dev/null || ! head -n 3 .venv/bin/pip | grep -qF '!$(CURDIR)/.venv/'; then \
		echo "==> set-up: .venv with Python $$version"; $(PYTHON) -m venv --clear .venv; fi; \
	torch=$$(grep '^torch==' requirements.txt); echo "==> set-up: $$torch (the largest part)"; \
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$torch"; \
	echo "==> set-up: the other packages, from $$list"; \
	$(PIP) -r $$list; \
	$(PIP) --no-deps -e .; \
	$(PY) -m pip check -q; \
	echo "$$key" > $(READY); echo "    set-up done in $$((SECONDS - start)) s"

fresh: setup
	@rm -rf "$(NUMBA_CACHE_DIR)"

book: fresh
	$(call step,execute the chapters,$(PY) -m snnrepro execute)
	$(call step,build the book,.venv/bin/jupyter-book build . -W -n --keep-going)
	@echo "The book: $(CURDIR)/_build/html/index.html"

html: setup
	$(call step,build the book from the committed notebooks,.venv/bin/jupyter-book build . -W -n --keep-going)
	@echo "The book: $(CURDIR)/_build/html/index.html"

test: fresh
	$(call step,style,$(PY) -m ruff check -q . && $(PY) -m ruff format -q --check .)
	$(call step,unit tests,$(PYTEST) -n 2 --dist worksteal tests --ignore tests/test_site.py -rs --durations 5)
	$(call step,notebooks agree with their sources,$(PY) -m snnrepro execute --check)
	$(call step,chapters against their stored outputs,$(PYTEST) --nbval --nbval-current-env --nbval-cell-timeout 300 chapters)
	$(call step,figure data of that run,$(PYTEST) tests -m after_chapters)

site: setup
	$(call step,scan the built pages,$(PYTEST) tests/test_site.py)

bench: fresh
	$(call step,benchmarks: the other libraries,$(PY) -m benchmarks.install)
	$(call step,benchmarks,$(PY) -W ignore -m benchmarks $(BENCH))
	$(call step,benchmark of first spikes,$(PY) -W ignore -m benchmarks.first_spike $(BENCH))
	$(call step,benchmark of FORCE,$(PY) -W ignore -m benchmarks.force $(BENCH))
	$(call step,benchmark of e-prop,$(PY) -W ignore -m benchmarks.eprop $(BENCH))

mutants: fresh
	$(call step,mutants,$(PY) tests/mutants/run.py --jobs 2)

mutants-ci: fresh
	$(call step,mutants: a few of each method,$(PY) tests/mutants/run.py --jobs 2 --ci)

clean:
	rm -rf _build build *.egg-info .pytest_cache .ruff_cache .hypothesis .venv/numba-cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
