# The commands of the README and of CI. Everything runs in .venv, which is made once and again when its inputs change.
# PYTHON=/path/to/python chooses the Python; PYTEST_ARGS are handed to pytest. DATA is the folder that benchmarks measure
# on, BENCHMARKS chooses some of them: make bench DATA=/path BENCHMARKS="gopher memory"

PYTHON ?=
PYTEST_ARGS ?=
DATA ?=
# Every benchmark that takes DATA.
BENCHMARKS ?= $(basename $(notdir $(shell grep -l 'add_argument."data"' tests/benchmarks/*.py)))
READY := .venv/.installed
PIP := -m pip --disable-pip-version-check

.PHONY: demo test test-slow test-minimum fuzz audit lint types bench constraints clean

demo: $(READY)
	@.venv/bin/tamis run demo

test: $(READY)
	@.venv/bin/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

test-slow: $(READY)
	@.venv/bin/python -m pytest -m slow $(PYTEST_ARGS)

# The lowest versions that pyproject.toml allows, on the oldest Python, in an environment of their own: 8 GB, because a
# torch of that age brings CUDA. What old packages warn of is not ours.
test-minimum:
	@mkdir -p build && python3.11 -m venv --clear build/minimum && build/minimum/bin/python $(PIP) install -qq uv
	@build/minimum/bin/python tests/minimum_versions.py > build/minimum.txt
	@build/minimum/bin/uv pip install -q --python build/minimum/bin/python -c build/minimum.txt -e '.[dev]'
	@NUMBA_CACHE_DIR=$(CURDIR)/build/minimum/numba build/minimum/bin/python -m pytest -n auto --dist worksteal \
	  -W ignore::DeprecationWarning $(PYTEST_ARGS)

# Asks PyPI which of the tested versions have known vulnerabilities. Strict: a package that PyPI cannot be asked about (a
# mirror may have no JSON) is an error, or an audit of nothing would pass.
audit:
	@mkdir -p build && python3 -m venv --clear build/audit && build/audit/bin/python $(PIP) install -qq pip-audit
	@build/audit/bin/pip-audit --strict -r constraints.txt --no-deps --disable-pip

# Bytes are mutated for MINUTES: everything that reads what somebody else wrote. Findings go to build/fuzzed.
MINUTES ?= 10
fuzz: $(READY)
	@mkdir -p .venv/link && ln -sfn "$(CURDIR)" .venv/link/tamis
	@PYTHONPATH=.venv/link .venv/bin/python tests/fuzzing.py --minutes $(MINUTES)

lint: $(READY)
	@.venv/bin/ruff check . && .venv/bin/ruff format --check -q .
	@$(MAKE) --no-print-directory types

# The repository is the package: mypy finds it as tamis through a link.
types: $(READY)
	@mkdir -p .venv/link && ln -sfn "$(CURDIR)" .venv/link/tamis
	@MYPYPATH=.venv/link .venv/bin/mypy -p tamis.storage -p tamis.features -p tamis.selectors -p tamis.pipelines

# A version manager's python3.13 may be there and not run, and a system's may lack venv: each is tried, not only looked up.
$(READY): pyproject.toml constraints.txt
	@if ! .venv/bin/python -c '' 2>/dev/null; then \
	  for python in $(PYTHON) python3.13 python3.12 python3.11 python3 none; do \
	    $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; \
	  done; \
	  if [ $$python = none ]; then \
	    echo "tamis: no Python of at least 3.11 with the module venv; install one, or name it: make PYTHON=/path/to/python" >&2; \
	    exit 1; \
	  fi; \
	  echo "Setting up .venv with $$($$python -V): once, a minute or two." >&2; \
	  $$python -m venv --clear .venv || exit 1; \
	fi
	@.venv/bin/python $(PIP) install -qq -c constraints.txt -e '.[dev]'
	@touch $@

# Each writes NAME.json and NAME.md into build/benchmarks; one that fails does not keep the others from running.
bench:
	@if [ ! -d "$(DATA)/pool" ]; then \
	  echo "tamis: DATA is '$(DATA)', expected a folder with pool/, targets/ and labels.parquet: make bench DATA=/path" >&2; \
	  exit 2; \
	fi
	@$(MAKE) --no-print-directory $(READY)
	@failed=; for name in $(BENCHMARKS); do \
	  echo "== $$name" >&2; .venv/bin/python tests/benchmarks/$$name.py "$(DATA)" || failed="$$failed $$name"; \
	done; \
	if [ -n "$$failed" ]; then echo "tamis: these benchmarks failed:$$failed" >&2; exit 1; fi

# On the oldest Python that is supported, which needs the most packages.
constraints:
	@python3.11 -m venv --clear build/constraints
	@build/constraints/bin/python $(PIP) install -qq -e '.[dev]'
	@{ sed '/^$$/q' constraints.txt && build/constraints/bin/python $(PIP) freeze --exclude-editable; } > build/constraints.txt
	@mv build/constraints.txt constraints.txt && rm -rf build/constraints

# The lake stays: what is in it may have cost days.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
