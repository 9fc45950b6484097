# make demo   train on the bundled digits and write a report (about 6 minutes on two cores)
# make test   the whole test suite
# Both create .venv on first use and reuse it afterwards. PYTHON names the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TEST_OPTIONS ?= -n 2

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/ganwright demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(TEST_OPTIONS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

# The stamps make a second call install nothing, unless what is installed has changed.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ganwright needs Python 3.11 or newer; name one: make PYTHON=python3.11 demo"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python constraints.txt pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python constraints.txt pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed
