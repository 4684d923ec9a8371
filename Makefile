# Two commands do everything: `make demo` and `make test`. They need Python >= 3.11 and make, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# A file's tests share what their fixtures made, so one worker has all of them. Bytecode is written whatever the
# environment says: without, each of the tests' many processes compiles Hilum and the tests anew.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench evidence soak lock clean

help:            ## What can be made here
	@grep -hE '^[a-z]+: .*##|^[a-z]+:  +##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

# uv is fetched into the environment itself, so that nothing outside it is needed or changed. Bytecode is compiled once
# here: where Python may not write it, every process would compile torch anew.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hilum needs Python >= 3.11, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --require-hashes --compile-bytecode -r requirements.lock
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --no-deps -e .
	@touch $@

demo: $(READY)   ## The whole road on the embedded phantom; ends with runs/demo/report.html
	$(BIN)/hilum demo --out runs/demo

lint: $(READY)   ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ty check

test: lint       ## Lint, types and the tests (shapes are checked in every test)
	$(PYTEST)

bench: $(READY)  ## Measure the hot paths; prints tables, writes results/bench/*.json
	$(BIN)/python -m bench

evidence: $(READY) ## Every claim about learning, in resumable cells (hours); writes results/
	$(BIN)/python -m evidence

soak: $(READY)   ## The long trials: kills, fuzzing (an hour)
	$(PYTEST) --soak tests

lock: $(READY)   ## Resolve requirements.lock anew
	$(BIN)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url -o requirements.lock

clean:           ## Remove the environment and what demo and tests made
	rm -rf $(VENV) runs .pytest_cache .ruff_cache .hypothesis
