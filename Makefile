# make demo: install and run on embedded data; make test: the quick tests; make check: style and types.
PYTHON ?= python3
BIN := .venv/bin
# tests side by side, one core each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
# one package as the wheel lays it out, for the type checker
TREE := .venv/tree
INSTALLED := .venv/.installed

.PHONY: demo test test-all test-wheel check format clean

# exactly what uv.lock names, so that it still works in years
$(INSTALLED): setup.cfg pyproject.toml uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv sync --quiet --locked --inexact --extra dev
	touch $@

demo: $(INSTALLED)
	$(BIN)/autolink demo

test: $(INSTALLED) check
	$(PYTEST) --cov --cov-report=

test-all: $(INSTALLED) check
	$(PYTEST) -m ''

# the wheel in an empty environment, without network
test-wheel: $(INSTALLED)
	$(PYTEST) -n 0 -m slow tests/test_packaging.py

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf $(TREE) && mkdir -p $(TREE)/autolink
	ln -s $(CURDIR)/autolink/* $(CURDIR)/generation $(CURDIR)/video $(CURDIR)/eval $(TREE)/autolink/
	ln -s $(CURDIR)/benchmarks $(CURDIR)/tests $(TREE)/
	cd $(TREE) && ../bin/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache autolink benchmarks tests

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info
