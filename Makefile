# The project's two commands: `make train` and `make test`. Each makes what it needs and nothing more.
# `make test-slicer` tests the 3D Slicer extension, for which it installs Slicer's core (1 GB) into an environment apart.

PYTHON ?= python3
VENV := .venv
SLICER := .venv-slicer
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: train test test-slicer lint clean

train: $(VENV)/.train
	$(BIN)/python -m monai.bundle run training --config_file bundles/lung/train.json

test: $(VENV)/.test
	$(BIN)/python -m pytest --ignore=tests/slicer_extension

test-slicer: $(SLICER)/.test
	$(SLICER)/bin/python -m pytest tests/slicer_extension

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[train]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) --editable '.[train,dicom,export,openvino,dev]'
	touch $@ $(VENV)/.train

$(SLICER)/.test: pyproject.toml constraints.txt
	test -x $(SLICER)/bin/python || $(PYTHON) -m venv $(SLICER)
	$(SLICER)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	    --editable '.[slicer-test,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(SLICER) build dist bundles/*/eval
