# make demo   set up and write a gallery of the zoo's models, demo/index.html; nothing more is fetched
# make test   set up and pass every check and test: what CI runs
# make check   the fast part of it: formatter, linter, types, import contracts and the tests that take little
# make results   the paper's experiments on the zoo: run folders in results/, tables in docs/results.md (hours)
# make docs   the documents as a site, site/index.html; links and headings that do not exist are errors

VENV ?= .venv
# Of the Pythons there are, first the system's: distributions build it optimised; one made by pyenv or from source often is not.
PYTHON ?= $(shell for p in /usr/bin/python3 python3; do \
	"$$p" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; done; echo "$$p")
INSTALLED := $(VENV)/.installed

.PHONY: demo test check bench results docs clean

demo: $(INSTALLED)
	$(VENV)/bin/heedmap demo --out demo

test: $(INSTALLED)
	scripts/browser
	VENV=$(VENV) scripts/check

check: $(INSTALLED)
	VENV=$(VENV) scripts/check --fast

bench: $(INSTALLED)
	$(VENV)/bin/python bench/run.py

results: $(INSTALLED)
	$(VENV)/bin/python bench/results.py

docs: $(INSTALLED)
	$(VENV)/bin/zensical build --strict --clean

# A second run installs nothing: only a change of these files does.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo site .cache .mypy_cache .ruff_cache .pytest_cache
