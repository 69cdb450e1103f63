# Everything here runs without root, on any machine with Python 3.11 or newer; it also runs as root.
# The first use makes .venv and installs into it. ARGS is passed on: make demo ARGS=--once
#
#   make demo      an embedded Postgres, sample data, a vendor's session through daypass, its replay
#   make test      the test suite, against real Postgres servers and with real clients
#   make test-thorough what make test leaves out because it takes seconds each; CI runs it too
#   make test-slow the same on other servers, and longer; some of it takes minutes
#   make faults    break everything in every known way, and print what was reached; ARGS=--long takes most of an hour
#   make check     ruff (lint, format), mypy --strict, import contracts
#   make compiled  the hot path compiled by mypyc in a copy of the tree, .compiled; wants a C compiler
#   make test-compiled  make test on that copy
#   make bench     pgbench directly, through PgBouncer where it is installed, and through daypass, compiled
#   make bench-rows    a million rows the same ways     make bench-crowd   thousands of sessions, logins and half-open ones
#   make bench-record  what the record costs: on a statement's way, in groups on the disk, sealed, verified
#   make lanes     what daypass's own code costs for a statement, without sockets
#   make bench-revoke  how soon after a revocation a hundred sessions are closed
#   make bench-guard   what a verdict costs, and how long hostile statements hold other sessions up
#   make conformance   the drivers' own test suites, directly and through daypass
#   make corpus    the evasion corpus in CORPUS, where there is one
#   make clean     removes .venv and every cache

ARGS ?=
CORPUS ?= ../shared/corpus
JOBS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start daypass hundreds of times: each start would compile all of it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-thorough test-slow faults check format compiled test-compiled bench bench-rows bench-crowd bench-record bench-revoke lanes bench-guard conformance corpus clean
.DEFAULT_GOAL := demo

# The newest Python that fits; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

$(PY):
	@test -n "$(PYTHON)" || { echo "daypass needs Python 3.11 or newer; name one with make PYTHON=/path/to/python3" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments (on Debian: apt install python3-venv)" >&2; exit 2; }

$(VENV)/.demo: pyproject.toml | $(PY)
	@echo "daypass: installing into $(VENV), once, about a minute ..."
	@$(PY) -m pip install -qq --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(PY)
	@echo "daypass: installing into $(VENV) with the tools for development, once, about a minute ..."
	@$(PY) -m pip install -qq --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	@exec $(VENV)/bin/daypass demo $(ARGS)

test: $(VENV)/.dev
	$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

test-thorough: $(VENV)/.dev
	$(PY) -m pytest -n $(JOBS) --dist loadfile -m "thorough and not slow" $(ARGS)

test-slow: $(VENV)/.dev
	$(PY) -m pytest -n $(JOBS) --dist loadfile -m slow $(ARGS)

faults: $(VENV)/.dev
	@exec $(PY) -m tests.faults $(ARGS)

check: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

# A copy of the tree in which the hot path is compiled: the sources stay as they are, and so does what make test runs.
compiled: $(VENV)/.dev
	@mkdir -p .compiled
	@git ls-files --cached --others --exclude-standard proxy recorder tests docs policies deploy '*.*' | tar cf - -T - | tar xf - -C .compiled
	@$(PY) deploy/compile.py .compiled >.compiled/log 2>&1 || { tail -20 .compiled/log >&2; exit 1; }

test-compiled: compiled
	cd .compiled && PYTHONPATH=$(CURDIR)/.compiled $(CURDIR)/$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

bench: compiled
	@cd .compiled && PYTHONPATH=$(CURDIR)/.compiled exec $(CURDIR)/$(PY) -m tests.bench $(ARGS)

bench-rows bench-crowd bench-record bench-revoke: bench-%: compiled
	@cd .compiled && PYTHONPATH=$(CURDIR)/.compiled exec $(CURDIR)/$(PY) -m tests.bench.$* $(ARGS)

lanes: compiled
	@cd .compiled && PYTHONPATH=$(CURDIR)/.compiled exec $(CURDIR)/$(PY) -m tests.bench.lanes $(ARGS)

bench-guard: $(VENV)/.dev
	@exec $(PY) -m tests.bench.guard $(ARGS)

conformance: $(VENV)/.dev
	@exec $(PY) -m tests.conformance $(ARGS)

corpus: $(VENV)/.dev
	@test -x "$(CORPUS)/prove" || { echo "no corpus at $(CORPUS); name one with make corpus CORPUS=DIR" >&2; exit 2; }
	@exec $(PY) -m tests.support.corpus "$(CORPUS)" $(ARGS)

clean:
	rm -rf $(VENV) .compiled .conformance .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
