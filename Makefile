# The project's two commands: `make train` and `make test`. Each makes what it needs and nothing more.
# `make docs` builds the documentation site in `site`.
# `make test-distributed` trains in several processes, some of which are killed, and on two hosts that lose each other.
# `make test-node` runs the DICOM node between dcmtk and Orthanc, kills it, and fills its disk.
# `make test-weights` measures the weights for photographs on whole test sets, which takes minutes and MONAI_R2UNET_DATA.
# `make test-slicer` tests the 3D Slicer extension, for which it installs Slicer's core (1 GB) into a separate environment.
# `make test-viewer` tests the web viewer in headless Chromium, and `make screenshots` makes its pictures for the docs.
# `make lung-weights` trains the lung weights from scratch, in hours on a CPU; it needs MONAI_R2UNET_DATA.
# `make bundles` writes what bundles share into each, and lists the files that are kept by hand.
# `make label-server STUDIES=folder BUNDLES=organs TRUST=1` starts a MONAI Label server, `make test-label` tests it,
# also in a separate environment.

PYTHON ?= python3
VENV := .venv
SLICER := .venv-slicer
VIEWER := .venv-viewer
LABEL := .venv-label
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

BUNDLES ?= lung
PORT ?= 8000

.PHONY: train lung-weights bundles test test-distributed test-node test-weights test-slicer test-viewer screenshots label-server test-label docs lint clean

train: $(VENV)/.train
	$(BIN)/python -m monai.bundle run training --config_file bundles/lung/train.json

lung-weights: $(VENV)/.train
	$(BIN)/python -m benchmarks.lung_weights lung_weights

bundles: $(VENV)/.train
	$(BIN)/python bundles/build.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -m "not (distributed or label_server or node or slicer or viewer or weights)"

test-distributed: $(VENV)/.test
	$(BIN)/python -m pytest -m distributed

test-node: $(VENV)/.test
	$(BIN)/python -m pytest -m node tests/apps/node --dist loadfile

test-weights: $(VENV)/.test
	$(BIN)/python -m pytest -m weights

test-slicer: $(SLICER)/.test
	$(SLICER)/bin/python -m pytest -m slicer tests/slicer_extension

test-viewer: $(VIEWER)/.test
	$(VIEWER)/bin/python -m pytest -m viewer tests/apps/viewer --dist loadfile

screenshots: $(VIEWER)/.test
	$(VIEWER)/bin/python -m benchmarks.viewer_screenshots

label-server: $(LABEL)/.installed
	$(LABEL)/bin/python -m label_server.serve --studies "$(STUDIES)" --bundles $(BUNDLES) --port $(PORT) $(if $(TRUST),--trust-bundle)

test-label: $(LABEL)/.installed
	$(LABEL)/bin/python -m pytest -m label_server tests/label_server --dist loadfile

# Strictly: a warning, such as a link to nowhere, is an error. Material is maintained until May 2027, and says so
# in every build unless it is told not to; Zensical, its successor, reads the same mkdocs.yml.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[train]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[train,node,export,openvino,dev]'
	touch $@ $(VENV)/.train

$(VENV)/.docs: $(VENV)/.test
	$(INSTALL) --editable '.[docs]'
	touch $@

$(SLICER)/.test: pyproject.toml constraints.txt
	test -x $(SLICER)/bin/python || $(PYTHON) -m venv $(SLICER)
	$(SLICER)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	    --editable '.[slicer-test,train,dev]'
	touch $@

# trame-slicer works with an older Slicer core than the one that the extension is tested with.
$(VIEWER)/.test: pyproject.toml constraints.txt tests/apps/viewer/constraints.txt
	test -x $(VIEWER)/bin/python || $(PYTHON) -m venv $(VIEWER)
	grep -vE '^(slicer-core|vtk)==' constraints.txt > $(VIEWER)/constraints.txt
	$(VIEWER)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(VIEWER)/constraints.txt \
	    --constraint tests/apps/viewer/constraints.txt --editable '.[viewer,viewer-test,dev]'
	touch $@

# MONAI Label needs an older pydicom than we do, which reads no DICOM with it.
$(LABEL)/.installed: pyproject.toml constraints.txt label_server/requirements.txt label_server/without_dependencies.txt
	test -x $(LABEL)/bin/python || $(PYTHON) -m venv $(LABEL)
	grep -v '^pydicom==' constraints.txt > $(LABEL)/constraints.txt
	$(LABEL)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(LABEL)/constraints.txt \
	    --requirement label_server/requirements.txt --editable '.[train]'
	$(LABEL)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --requirement label_server/without_dependencies.txt
	touch $@

clean:
	rm -rf $(VENV) $(SLICER) $(VIEWER) $(LABEL) build dist site bundles/*/eval
