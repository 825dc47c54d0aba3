# Every target makes .venv by itself, from requirements.lock. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install

# A .venv that was begun and not finished is begun again.
.DELETE_ON_ERROR:
.PHONY: help setup demo test slow check format bench docs lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "Variables: PYTHON=python3.12 (the interpreter for .venv), ARGS='-k lsq' (for test, slow and demo)"

setup: $(READY) ## make .venv; EXTRAS=cuda12 (or cuda13, tpu, torch) adds what the lock leaves out
ifdef EXTRAS
	@echo "adding $(EXTRAS)"
	@if [ -x $(BIN)/uv ]; then \
		$(BIN)/uv pip install -q --python .venv -c requirements.lock --no-build-isolation -e '.[$(EXTRAS)]'; \
	else $(PIP) --no-build-isolation -e '.[$(EXTRAS)]'; fi
endif

demo: $(READY) ## digits: a float baseline, then PTQ and QAT at 8, 4, 3 and 2 bits, a table and a picture
	@$(BIN)/qresearch demo $(ARGS)

test: $(READY) ## the tests, without the slow ones
	@$(BIN)/pytest -n auto --maxprocesses=4 --dist loadgroup $(ARGS)

slow: $(READY) ## the slow tests alone
	@$(BIN)/pytest -m slow $(ARGS)

check: $(READY) ## formatting, lint and types, as in CI
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/pyright

format: $(READY) ## repair formatting and what lint can repair
	@$(BIN)/ruff check --fix --exit-zero -q . && $(BIN)/ruff format .

bench: $(READY) ## every script of benchmarks/
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

docs: $(READY) ## measure docs/conventions.md anew
	@$(BIN)/python docs/conventions.py

lock: $(BIN)/python ## resolve requirements.lock again; UPGRADE=1 takes new versions
	@$(call install_uv) || { echo "make lock needs uv"; exit 1; }
	@$(BIN)/uv pip compile -q pyproject.toml --extra dev -o requirements.lock $(if $(UPGRADE),--upgrade) \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock"

clean: ## remove .venv, dist and the tools' caches; runs/ stays
	rm -rf .venv dist .pytest_cache .ruff_cache .hypothesis
	find qresearch tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

# uv is taken from the lock too, with its hashes. $(call locked,uv) prints its lines.
locked = awk '/^[^ ]/ { keep = $(2) /^$(1)==/ } keep' requirements.lock
install_uv = [ -x $(BIN)/uv ] || { $(call locked,uv) > .venv/uv.txt && $(PIP) -r .venv/uv.txt 2> /dev/null; }

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
		version=$$($(PYTHON) -c 'import platform; print(platform.python_version())' 2> /dev/null || echo missing); \
		echo "qresearch needs Python 3.11 or newer, and $(PYTHON) is $$version." \
			"Name another: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "$(PYTHON) cannot make virtual environments." \
			"On Debian and Ubuntu: apt install python3-venv; or: uv venv --seed --python 3.12 .venv"; exit 1; }
	@$(PYTHON) -m venv --clear .venv

# An interpreter that is gone (upgraded away, say) leaves a dangling link behind: set up again.
ifneq ($(shell [ -x $(BIN)/python ] && echo there),there)
.PHONY: $(READY)
endif

# --no-build-isolation: hatchling comes from the lock, so this step asks nothing of the network.
$(READY): pyproject.toml requirements.lock | $(BIN)/python
	@echo "setting up .venv from requirements.lock (about a minute, 1 GB)"
	@{ $(call install_uv) && \
		$(BIN)/uv pip install -q --python .venv --require-hashes -r requirements.lock && \
		$(BIN)/uv pip install -q --python .venv --no-deps --no-build-isolation -e .; } || { \
		echo "uv does not work here; pip takes about two minutes" && \
		$(call locked,uv,!) > .venv/without-uv.txt && \
		$(PIP) --require-hashes -r .venv/without-uv.txt && \
		$(PIP) --no-deps --no-build-isolation -e .; }
	@touch $@
