# The project's two commands: `make train` and `make test`. Each makes what it needs and nothing more.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: train test lint clean

train: $(VENV)/.train
	$(BIN)/python -m monai.bundle run training --config_file bundles/lung/train.json

test: $(VENV)/.test
	$(BIN)/python -m pytest

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

clean:
	rm -rf $(VENV) build dist bundles/*/eval
