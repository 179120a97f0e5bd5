# Each target works alone on a machine with Python 3.11 or later, a C compiler and make: it creates an
# environment, installs what it needs there, builds the extension modules in place, and runs.
#
#   make test PYTHON=python3.13 VENV=.venv-3.13     another interpreter, in an environment beside the first
#   make test ARGS="-k cycle -x"                    arguments for the tool that the target runs
#   PICANTE_DEBUG=1 make test                       another build (CONTRIBUTING.md lists the switches)

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
KIND ?= native

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

# "3.11.7 cpython-311-x86_64-linux-gnu": names the folder of the stamps and that of the build.
ID := $(shell $(PYTHON) -c 'import sys, sysconfig; print(sys.version.split()[0], sysconfig.get_config_var("SOABI"))')
DID := $(VENV)/.did-$(word 1,$(ID))
FLAGS := build/$(word 2,$(ID))/flags
BUILT := build/$(word 2,$(ID))/built

SOURCES := setup.py pyproject.toml $(wildcard picante/_core/*.pyx picante/_core/*.pxd picante/_core/*.h)
CHECKED := picante _picante_pytestplugin.py $(wildcard examples)

# setup.py leaves in $(FLAGS) with which switches it built: others, or a module gone, and it has to run again.
off = $(filter-out 0,$(strip $(1)))
SWITCHES := $(strip $(foreach s,DEBUG TRACE ANNOTATE SANITIZE,PICANTE_$(s)=$(call off,$(PICANTE_$(s)))))
MODULES := $(patsubst %.pyx,%.$(word 2,$(ID)).so,$(wildcard picante/_core/*.pyx))
ifneq ($(SWITCHES),$(shell head -n 1 $(FLAGS) 2>/dev/null))
STALE := FORCE
endif
ifneq ($(words $(MODULES)),$(words $(wildcard $(MODULES))))
STALE := FORCE
endif

.PHONY: help demo test lint bench bench-ci build profile clean FORCE

help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo '  Variables: PYTHON=$(PYTHON) VENV=$(VENV) ARGS=$(ARGS)'

demo: $(BUILT) $(DID)/installed ## analyse the imports of the standard library, incrementally
	$(PY) -m examples.imports --cache build/demo $(ARGS)

test: $(DID)/needs-dev $(BUILT) $(DID)/installed ## run the quick tests (all: ARGS='-m "slow or not slow"')
	$(PY) -m pytest $(ARGS)

lint: $(DID)/needs-dev $(BUILT) $(DID)/installed ## check style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint picante
	$(PY) -m mypy $(CHECKED)

bench: $(DID)/needs-dev-bench $(BUILT) $(DID)/installed ## measure beside peers; write benchmarks/RESULTS.md
	$(PY) -m benchmarks $(ARGS)

bench-ci: $(DID)/needs-dev-bench $(BUILT) $(DID)/installed ## count what operations cost, and compare
	$(PY) -m benchmarks.ci $(ARGS)

build: $(DID)/needs-dev ## make the wheel and the sdist in dist/
	rm -rf dist
	$(PY) -m build --no-isolation --outdir dist

# In a folder of its own, so that the build that one works with stays as it is. `tar` keeps the times of the sources.
profile: $(DID)/needs-dev ## build for perf and callgrind, with the lines of .pyx files (KIND=trace: cProfile, coverage)
	@case $(KIND) in native|trace) ;; *) echo 'KIND is native or trace, not $(KIND)'; exit 1;; esac
	@mkdir -p build/profile/$(KIND)
	@find build/profile/$(KIND)/picante -name '*.p[yx]*' -type f -delete 2>/dev/null || true
	tar --exclude='*.so' --exclude='*.c' --exclude=__pycache__ -cf - setup.py pyproject.toml README.md LICENSE-* picante \
	    examples tests benchmarks | tar -xpf - -C build/profile/$(KIND)
	cd build/profile/$(KIND) && env -u PICANTE_DEBUG -u PICANTE_SANITIZE -u PICANTE_ANNOTATE -u PICANTE_TRACE \
	    $(if $(filter trace,$(KIND)),PICANTE_TRACE=1,PICANTE_DEBUG=lines) \
	    $(abspath $(PY)) setup.py --quiet build_ext --inplace
	@echo 'Run with PYTHONPATH=$(abspath build/profile/$(KIND)); docs/profiling.md says what then.'

clean: ## remove all that is built, keep the environments
	rm -rf build dist *.egg-info .benchmarks .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f picante/_core/*.so picante/_core/*.c picante/_core/*.html
	find . -path './.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The environment.  One of another interpreter is made afresh; a folder that is no environment is left alone.
$(DID)/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo 'picante needs CPython 3.11 or later; say where it is: make ... PYTHON=/path/to/python3'; exit 1; }
	@if [ -e $(VENV) ] && [ ! -e $(VENV)/pyvenv.cfg ]; then \
	    echo '$(VENV) exists and is no virtual environment; choose another: make ... VENV=.venv-other'; exit 1; fi
	@$(PY) -c 'import pip, sys; sys.exit(sys.version.split()[0] != "$(word 1,$(ID))")' 2>/dev/null || \
	    { echo '$(PYTHON) -m venv $(VENV)'; $(PYTHON) -m venv --clear $(VENV); }
	@mkdir -p $(DID) && touch $@

# needs-run: what picante and its build require; needs-dev: with the extra `dev`; needs-dev-bench: with both.
$(DID)/needs-%: pyproject.toml | $(DID)/made
	@$(PY) -c 'import sys, tomllib; p = tomllib.load(open("pyproject.toml", "rb")); \
	    extras = p["project"]["optional-dependencies"]; \
	    print(*p["build-system"]["requires"], *p["project"]["dependencies"], \
	        *(r for e in sys.argv[1:] for r in extras[e]), sep="\n")' $(filter-out run,$(subst -, ,$*)) > $@.txt
	$(PIP) --requirement $@.txt
	@touch $@

$(BUILT): $(SOURCES) $(wildcard $(FLAGS)) $(STALE) | $(DID)/needs-run
	$(PY) setup.py --quiet build_ext --inplace
	@touch $@

# Editable, once for each environment; what is built already is not built again.
$(DID)/installed: pyproject.toml setup.py | $(BUILT)
	$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@
