# make demo: install and run on embedded data; make test: the quick tests; make check: style and types;
# make bench: speeds in one table.
PYTHON ?= python3
BIN := .venv/bin
# tests side by side, one core each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
# one package as the wheel lays it out, for the type checker and the pages on Python
TREE := .venv/tree
# its forks need a process without the threads of other tests
FORKING := tests/test_fuzz.py
INSTALLED := .venv/.installed

.PHONY: demo test test-all test-wheel check tree docs release-check audit bench format clean

# exactly what uv.lock names, so that it still works in years; compiled, for every test of a command starts Python, and
# the first transfer would wait for the edge map
$(INSTALLED): setup.cfg pyproject.toml uv.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv sync --quiet --locked --inexact --compile-bytecode --extra dev
	$(BIN)/python -c 'import torch; from autolink.edge_map import edge_map; edge_map(torch.zeros(1, 2, 2), torch.ones(1), 2, 1.0)'
	touch $@

demo: $(INSTALLED)
	$(BIN)/autolink demo

test: $(INSTALLED) check
	$(PYTEST) --ignore=$(FORKING) --cov --cov-report=
	$(PYTEST) -n 0 --cov --cov-append --cov-report= $(FORKING)

test-all: $(INSTALLED) check
	$(PYTEST) -m '' --ignore=$(FORKING)
	$(PYTEST) -n 0 -m '' $(FORKING)

# the wheel in an empty environment, without network
test-wheel: $(INSTALLED)
	$(PYTEST) -n 0 -m slow tests/test_packaging.py

check: tree
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cd $(TREE) && ../bin/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache autolink benchmarks tests

tree: $(INSTALLED)
	rm -rf $(TREE) && mkdir -p $(TREE)/autolink
	ln -s $(CURDIR)/autolink/* $(CURDIR)/generation $(CURDIR)/video $(CURDIR)/eval $(TREE)/autolink/
	ln -s $(CURDIR)/benchmarks $(CURDIR)/tests $(TREE)/

# the pages of docs/ as a site, in site/; every warning is an error (with --quiet none is seen), and no network is used
docs: tree
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# what is uploaded to PyPI, in dist/, and whether PyPI and pip will take it
release-check: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --quiet
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# every speed in one table, some minutes on two idle cores; BENCH="--authors CLONE --fomm CLONE" measures more
bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks $(BENCH)

# known vulnerabilities of what uv.lock names, asked of osv.dev; exit code 1: there are some, 2: it could not be asked
audit: $(INSTALLED)
	@$(BIN)/uv audit --locked --preview-features audit-command >.venv/audit 2>&1; code=$$?; \
	if grep -q 'error sending request' .venv/audit; \
	then echo 'audit: osv.dev cannot be reached, so nothing is known of the versions in uv.lock' >&2; \
	else cat .venv/audit; fi; exit $$code

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info
