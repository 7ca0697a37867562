# Every target runs in .venv, which is made on first use and brought up to date when pyproject.toml changes.
# On a machine without a GPU, an index of CPU builds in PIP_EXTRA_INDEX_URL spares torch's CUDA libraries.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?=
# Processes that share the tests, each of which takes a gigabyte or two: a file at a time, in the order of the folders, whose long files are not the last.
SHARED = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))')
WITH ?=
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'

.DEFAULT_GOAL := help
.PHONY: help demo test test-dali test-stable-pretraining test-held-down test-arm test-oldest test-versions \
  lint bench bench-page evidence gpu docs clean distclean

help:
	@echo 'make demo        pretrain a small model on hardest pairs for about three minutes and write demo-report.html'
	@echo '                 (DATA=folder takes your own photos instead of the example set, here and for bench)'
	@echo 'make test        run the test suite'
	@echo 'make test-dali   run the tests of the pipelines with DALI and Kornia installed'
	@echo 'make test-stable-pretraining   run the tests of that trainer in an environment of its own'
	@echo 'make test-held-down   run the tests of what computes as processors with fewer instructions would: AVX2, and plain x86-64'
	@echo 'make test-arm    run the tests of what computes on an emulated 64-bit Arm processor, beside this machine (half an hour)'
	@echo 'make test-oldest   run the tests with the lowest versions that pyproject.toml promises, all together, in an environment of their own'
	@echo 'make test-versions   run the central tests with another Python or other versions: PYTHON=python3.13 WITH="torch==2.11.*"'
	@echo 'make lint        ruff and mypy'
	@echo 'make bench       what fits this machine: images/s beside other loaders, cost of selection; then the page of all results (an hour and a half)'
	@echo 'make bench-page  the page of all results, and the plots and experiments of docs/evidence.md, from the results that are there'
	@echo 'make evidence    pretraining arms and controls, run after run where it stood (hours); results accumulate'
	@echo 'make gpu         on a machine with a CUDA device: its tests, times by kernel, views/s beside other libraries, training steps'
	@echo 'make docs        write the documentation site to build/docs; index.html opens from there'
	@echo 'make clean       remove caches and build products; make distclean removes .venv too'

$(BIN)/python:
	@$(PYTHON) $(NEW_ENOUGH) 2>/dev/null || { echo "hvs_data needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)." \
	  "Name another one: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@# venv leaves an interpreter without pip behind where it fails, which would pass for a finished environment
	$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }

# One stamp an extra. Without build isolation nothing is fetched where all is installed already.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	@$(BIN)/python $(NEW_ENOUGH) || { echo "$(VENV) holds $$($(BIN)/python --version 2>&1), hvs_data needs 3.11 or newer; run: make distclean" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet 'setuptools>=77'
	$(BIN)/python -m pip install --no-build-isolation --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed-demo
	$(BIN)/hvs-data demo $(if $(DATA),--data '$(DATA)')

# the bench extra holds the test and demo extras, whose parts have tests too
test: $(VENV)/.installed-bench
	$(BIN)/python -m pytest $(SHARED) --durations=20

# the engine of DALI and Kornia on their CPU backends; their packages are large, so that make test leaves them out
test-dali: $(VENV)/.installed-dali-test
	$(BIN)/python -m pytest tests/pipelines tests/hvs_data/loaders/test_device_decoding.py

# stable-pretraining brings 400 MB and newer versions of shared packages: an environment of its own, on top of the other one's packages
$(VENV)-stable-pretraining/.installed: pyproject.toml $(VENV)/.installed-bench
	$(PYTHON) -m venv --clear $(VENV)-stable-pretraining
	@# by addsitedir, which follows the links of editable installs too
	$(BIN)/python -c 'import site; print("import site; site.addsitedir(%r)" % site.getsitepackages()[0])' > \
	  "$$($(VENV)-stable-pretraining/bin/python -c 'import site; print(site.getsitepackages()[0])')/below.pth"
	$(VENV)-stable-pretraining/bin/python -m pip install --quiet 'stable-pretraining==0.1.8'
	@touch $@

test-stable-pretraining: $(VENV)-stable-pretraining/.installed
	$(VENV)-stable-pretraining/bin/python -m pytest tests/hvs_data/integrations/test_stable_pretraining.py

# What this machine computes with all that it has, compared with what it computes with fewer instructions; then what computes, and trainings.
HELD_DOWN := $(BIN)/python tests/machines/held_down.py
HELD_DOWN_TESTS := tests/kernels tests/pipelines tests/hvs_data/rows tests/hvs_data/objectives tests/hvs_data/forwards \
  $(addprefix tests/hvs_data/selection/test_,geometry.py multi_crop.py prefilter.py selector.py selector_multi_crop.py) \
  tests/hvs_data/modules/test_trace_free.py tests/hvs_data/demo/test_training.py tests/bench/harness/pretraining/test_arms.py \
  --ignore=tests/kernels/render/triton
test-held-down: $(VENV)/.installed-bench
	@mkdir -p build/held-down
	$(BIN)/python tests/machines/twin.py write build/held-down/twin.pt
	for level in avx2 x86-64; do $(HELD_DOWN) $$level tests/machines/twin.py compare build/held-down/twin.pt || exit 1; done
	for level in avx2 x86-64; do $(HELD_DOWN) $$level -m pytest $(SHARED) $(HELD_DOWN_TESTS) || exit 1; done

# emulated on any x86 machine; says which Debian packages it needs
test-arm: $(VENV)/.installed-bench
	tests/machines/arm.sh $(BIN)/python

# all but what a trainer, the demo and the benches need
OLDEST_TESTS := tests/kernels tests/pipelines tests/hvs_data --ignore=tests/hvs_data/integrations --ignore=tests/hvs_data/demo \
  tests/machines/test_versions.py tests/test_house.py tests/test_layers.py
# what is compiled or interpreted by something with a version, and a training
CENTRAL_TESTS := tests/kernels tests/hvs_data/loaders/test_hard_view_loader.py tests/hvs_data/demo/test_training.py tests/test_house.py

# The lowest version of everything that the package and its tests ask for. Versions of that age have wheels for Python 3.11 and 3.12, and on
# x86-64 PyPI's torch brings CUDA: six gigabytes.
$(VENV)-oldest/.installed: pyproject.toml tests/machines/versions.py
	$(PYTHON) -m venv --clear $(VENV)-oldest
	$(VENV)-oldest/bin/python tests/machines/versions.py > $(VENV)-oldest/lowest.txt
	$(VENV)-oldest/bin/python -m pip install --quiet --constraint $(VENV)-oldest/lowest.txt setuptools
	$(VENV)-oldest/bin/python -m pip install --no-build-isolation --constraint $(VENV)-oldest/lowest.txt --editable '.[test]'
	@touch $@

test-oldest: $(VENV)-oldest/.installed
	$(VENV)-oldest/bin/python -m pytest $(SHARED) $(OLDEST_TESTS)

# made anew each time: which Python and which versions is for the caller to say
test-versions:
	$(PYTHON) -m venv --clear $(VENV)-versions
	$(VENV)-versions/bin/python -m pip install --quiet 'setuptools>=77.0.1'
	$(VENV)-versions/bin/python -m pip install --no-build-isolation --editable '.[test]' $(foreach requirement,$(WITH),'$(requirement)')
	$(VENV)-versions/bin/python -m pytest $(SHARED) $(CENTRAL_TESTS)

lint: $(VENV)/.installed-bench
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.installed-bench
	$(BIN)/python bench/loader_cpu.py $(if $(DATA),--data '$(DATA)')
	$(BIN)/python bench/selection.py --method simsiam $(if $(DATA),--data '$(DATA)')
	$(BIN)/python bench/selection.py --method dino $(if $(DATA),--data '$(DATA)')
	$(BIN)/python bench/selection.py --method dinov2 $(if $(DATA),--data '$(DATA)')
	$(BIN)/python bench/closed_loop.py $(if $(DATA),--data '$(DATA)')
	$(BIN)/python bench/page.py --docs docs

bench-page: $(VENV)/.installed-bench
	$(BIN)/python bench/page.py --docs docs

evidence: $(VENV)/.installed-bench
	OMP_NUM_THREADS=1 $(BIN)/python bench/pretrain.py --cost $(if $(DATA),--data '$(DATA)')
	OMP_NUM_THREADS=1 $(BIN)/python bench/pretrain.py $(if $(DATA),--data '$(DATA)')
	$(BIN)/python bench/page.py

gpu: $(VENV)/.installed-bench
	$(BIN)/python bench/gpu_stages.py --budget 3600 $(if $(DATA),--data '$(DATA)')

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --quiet --strict --config-file docs/site/mkdocs.yml
	@echo 'the site is build/docs/index.html'

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find hvs_data kernels pipelines tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(VENV)-stable-pretraining $(VENV)-oldest $(VENV)-versions
