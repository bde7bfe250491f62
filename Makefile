# make demo: install and run on embedded data; make test: the quick tests; make check: style and types.
PYTHON ?= python3
BIN := .venv/bin
# tests side by side, one core each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
# one package as the wheel lays it out, for the type checker
TREE := .venv/tree
INSTALLED := .venv/.installed

.PHONY: demo test test-all check format clean

$(INSTALLED): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade uv
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/autolink demo

test: $(INSTALLED) check
	$(PYTEST)

test-all: $(INSTALLED) check
	$(PYTEST) -m ''

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	rm -rf $(TREE) && mkdir -p $(TREE)/autolink
	ln -s $(CURDIR)/autolink/* $(CURDIR)/generation $(CURDIR)/video $(CURDIR)/eval $(TREE)/autolink/
	cd $(TREE) && ../bin/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build *.egg-info
