# Needs python3 (3.11 or newer) and make. Everything else goes into .venv, once.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-tools check fix pins clean

help:  ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY)  ## Label a drawn corpus with the bundled model; prints where the report is
	@$(BIN)/python -m jobs.demo

test: $(READY)  ## Run every test
	$(BIN)/python -m pytest

test-fast: $(READY)  ## Run the tests that start no Ray
	$(BIN)/python -m pytest -m "not ray"

# In .tools, an environment of its own: a labelling tool's packages are not the project's, and hold others back.
test-tools: $(READY)  ## Let the tools' own code read exports: Label Studio's, CVAT's; FiftyOne's too, where FIFTYONE_DATABASE_URI names a MongoDB
	@$(find_uv); \
	$$uv venv --quiet --clear --python "$$(command -v $(PYTHON))" .tools; \
	VIRTUAL_ENV="$$PWD/.tools" $$uv pip install --quiet --group dev -r pyproject.toml label-studio-sdk datumaro \
		$(if $(FIFTYONE_DATABASE_URI),fiftyone)
	.tools/bin/python -c "import datumaro, label_studio_sdk.converter.brush"
	.tools/bin/python -m pytest tests/pipelines/export

check: $(READY)  ## Format, lint, types, import rules: changes nothing
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/basedpyright
	$(BIN)/lint-imports

fix: $(READY)  ## Format, and repair what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

pins: $(READY)  ## Choose the newest allowed version of every package again
	@$(find_uv); $$uv pip compile --quiet --universal --upgrade --python-version 3.11 \
		--group dev --no-emit-index-url --no-annotate \
		--custom-compile-command "make pins" -o requirements.txt pyproject.toml

clean:  ## Remove the environment; results in out/ and the MLflow store stay
	rm -rf .venv .uv .tools

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $(PYTHON) is missing or older than 3.11; name another: make PYTHON=python3.11" >&2; \
		exit 1; }
	@$(find_uv); \
	$(BIN)/python -c '' 2>/dev/null || $$uv venv --quiet --clear --python "$$(command -v $(PYTHON))" .venv; \
	export VIRTUAL_ENV="$$PWD/.venv"; \
	echo "Installing the packages of requirements.txt into .venv"; \
	$$uv pip install --quiet -r requirements.txt; \
	$$uv pip install --quiet --no-deps -e .
	@touch $@

# Sets $$uv: the one on PATH, else one of our own in .uv (a venv where Python has ensurepip, else a plain folder).
define find_uv
set -e; uv=uv; \
if ! uv --version >/dev/null 2>&1; then \
	uv=.uv/bin/uv; \
	if ! $$uv --version >/dev/null 2>&1; then \
		rm -rf .uv; \
		echo "Installing uv into .uv"; \
		{ $(PYTHON) -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip install --quiet uv; } || \
		{ rm -rf .uv && $(PYTHON) -m pip install --quiet --target .uv uv; } || \
		{ echo "error: no uv and no pip; see https://docs.astral.sh/uv/getting-started" >&2; exit 1; }; \
	fi; \
fi
endef
