# Every target sets up what it needs in .venv; the tasks themselves stand in pyproject.toml.

# Flags for demo, test and bench: make demo ARGS="--duration 120 --headless"
ARGS ?=
# The interpreter that .venv is made with; empty: the first of python3, python3.13, ... that is new enough.
PYTHON ?=

.DEFAULT_GOAL := help
.PHONY: help demo test e2e check proto bench evaluate lock
MAKEFLAGS += --no-print-directory

# $(call with,EXTRA): .venv has this extra of pyproject.toml at the versions of constraints.txt.
define with
for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14 .venv/bin/python; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break || python=; \
done; \
[ -n "$$python" ] || { echo 'make: needs Python 3.11 or later on the PATH, or PYTHON=/path/to/python3' >&2; exit 1; }; \
"$$python" .ci/setup_venv.py $(1)
endef

help:  ## List the targets
	@sed -n 's/^\([a-z0-9]*\):  ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo:  ## Run server, shim and real workloads on this machine; report at the end (ARGS=...)
	@$(call with,loadtest) && exec .venv/bin/mbcas-loadtest demo $(ARGS)

test:  ## Run the tests (ARGS=... goes to pytest)
	@$(call with,dev) && exec .venv/bin/poe -q test $(ARGS)

e2e:  ## Run the tests on a real Kubernetes that it builds and starts here, as root (ARGS="--keep" leaves it up)
	@$(call with,dev) && exec .venv/bin/python -m tests.e2e $(ARGS)

check:  ## Lint, types, imports, protos, generated code, docs
	@$(call with,dev) && exec .venv/bin/poe -q check

proto:  ## Regenerate the Python code beside the protos
	@$(call with,dev) && exec .venv/bin/poe -q proto

bench:  ## Measure the server, the clearing and the shim (ARGS=... names one)
	@$(call with,loadtest) && exec .venv/bin/mbcas-loadtest bench $(ARGS)

evaluate:  ## Compare MBCAS with its rivals in simulation, one page (ARGS="--quick": a small part against the stored result)
	@$(call with,loadtest) && exec .venv/bin/mbcas-loadtest evaluate $(ARGS)

lock:  ## Pin the newest versions that fit pyproject.toml in constraints.txt
	@$(call with,dev) && exec .venv/bin/poe -q lock
