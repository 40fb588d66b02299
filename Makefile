PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow test-browser docs lint types clean

demo: $(INSTALLED)  ## the main job on the demo model; prints where the report lies
	$(BIN)/exitbench run

test: $(INSTALLED)  ## the fast tests
	$(BIN)/pytest -n 2

test-slow: $(INSTALLED)  ## tests on real pretrained weights (fetched on first use), and long ones
	$(BIN)/pytest -m slow

test-browser: $(INSTALLED)  ## the report in headless Chromium (Debian: chromium, chromium-driver)
	$(BIN)/pytest -m browser

docs: $(INSTALLED)  ## the documentation as a site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) exitbench-out site

# torch first and on its own, so that no other requirement can pull in another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev,docs]'
	touch $@
