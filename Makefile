# Each target does all the set-up it needs; nothing has to be installed first but Python 3.11 and make.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PORT ?= 8000
HOST ?= 127.0.0.1

.DELETE_ON_ERROR:
.PHONY: run demo test check bench faults

run: $(VENV)/installed  ## the whole service in the foreground, until Ctrl-C
	@exec $(RUN) manage.py up --host $(HOST) --port $(PORT)

demo: $(VENV)/installed  ## the same, and a simulated fleet that sends to it
	@exec $(RUN) manage.py up --demo --host $(HOST) --port $(PORT)

test: $(VENV)/installed-dev check  ## checks and the whole test suite
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/installed-dev  ## lint, format, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy .

bench: $(VENV)/installed-dev  ## the benchmarks; writes docs/benchmarks.md
	$(RUN) -m tests.benchmarks

faults: $(VENV)/installed-dev  ## the long kill and outage runs; writes docs/reliability.md
	$(RUN) -m tests.faults

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; set PYTHON=/path/to/it")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/installed
