# Two commands on a fresh machine: `make demo` and `make test`. Both make .venv from the pins in constraints.txt.
# `make test` leaves out what takes long or needs more than Python: services, exporters, ONNX graphs, a browser, Ray,
# killed searches, retraining, families of networks, most searches but the tiny one, whole walks through a run, what is
# measured end to end or in a kit, the tutorial.
PYTHON ?= python3
# What was compiled once is not compiled again by every process of a search or test.
export PYTHONDONTWRITEBYTECODE :=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
SLOW := tests/services tests/chaos tests/contracts/test_backends.py tests/contracts/test_exporters.py \
	tests/contracts/test_models.py \
	tests/integration/test_cascade.py tests/integration/test_cascade_search.py tests/integration/test_cascade_tiers.py \
	tests/integration/test_certify.py tests/integration/test_class_weights.py tests/integration/test_cli_searches.py tests/integration/test_interruptions.py \
	tests/integration/test_kit.py tests/integration/test_ray.py tests/integration/test_report.py \
	tests/integration/test_searches.py tests/integration/test_show_and_take.py tests/integration/test_store.py tests/integration/test_texts.py \
	tests/integration/test_tiers.py tests/integration/test_train.py tests/integration/test_verify.py \
	tests/integration/test_views.py tests/docs/test_extending.py tests/docs/test_tutorial.py \
	tests/unit/costs/test_deployed.py tests/unit/costs/test_kit.py tests/unit/costs/test_kit_measure.py \
	tests/unit/costs/test_profile_exported.py tests/unit/exporters/test_hf_folder.py \
	tests/unit/exporters/test_lightning_module.py tests/unit/exporters/test_onnx_stages.py \
	tests/unit/exporters/test_openvino_stages.py tests/unit/exporters/test_tiers.py \
	tests/unit/exporters/test_torch_folder.py tests/unit/exporters/test_views.py tests/unit/nets/test_graphs.py

.PHONY: setup demo test test-all lint docs bench clean

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --no-compile -c constraints.txt torch -e '.[dev]'
	@touch $@

demo: setup
	$(BIN)/eesearch search digits

test: setup
	$(PYTEST) $(addprefix --ignore=,$(SLOW))

test-all: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Quick forms of benchmarks; those of proof (README, Results) run on scikit-learn's digits. earlyon is a rival.
BENCHMARKS := modes solver chaos scaling search_cost ablation policies branchynet tiny transfer
bench: setup
	$(PIP) install --quiet -c constraints.txt --no-deps earlyon==0.3.0
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py --quick; done

clean:
	rm -rf .venv build site *.egg-info
