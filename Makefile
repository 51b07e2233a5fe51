# The table of contents: `make` alone prints it.

PYTHON ?= python3
PY := .venv/bin/python
on = $(filter-out 0,$(1))
LOCK := $(if $(call on,$(GPU)),requirements-gpu.lock,requirements.lock)
UV := .venv/bin/uv

# --name 'value' for a variable that is set; each means the same on the scripts' own command line.
option = $(if $($(1)),--$(2) '$($(1))')
switch = $(if $(call on,$($(1))),--$(2))
OPTIONS = $(call switch,FULL,full) $(call option,ARMS,arms) $(call option,SEEDS,seeds) $(call option,DATASET,dataset) \
  $(call option,EPOCHS,epochs) $(call option,BATCH,batch) $(call option,TRAIN,train) $(call option,SIZE,size) \
  $(call option,COLOUR,colour) $(call option,PRECISION,precision) $(call option,THREADS,threads) \
  $(call option,REPLICAS,replicas) $(call option,JOBS,jobs) $(call option,TRIALS_PER_GPU,trials-per-gpu) \
  $(call option,STALL_SECONDS,stall-seconds) \
  $(call option,RESULTS,results) $(call option,CHECKPOINT_STEPS,checkpoint-steps) \
  $(call option,TUNER,tuner) $(call option,TRIALS,trials) $(call option,SWEEPS,sweeps) \
  $(call switch,SMOKE,smoke) $(call switch,KEEP,keep) $(call switch,DRY,dry)

KNOWN := PYTHON GPU ARGS FULL ARMS SEEDS DATASET EPOCHS BATCH TRAIN SIZE COLOUR PRECISION THREADS JOBS RESULTS CHECKPOINT_STEPS \
  REPLICAS TRIALS_PER_GPU STALL_SECONDS TUNER TRIALS SWEEPS ROW ROUNDS REPEATS SMOKE KEEP DRY
UNKNOWN := $(filter-out $(KNOWN),$(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word))))))
$(if $(UNKNOWN),$(error option must be one of $(KNOWN). Received: $(firstword $(UNKNOWN))))

.DEFAULT_GOAL := help
.PHONY: help setup all list verdicts report reproduce check plots test chaos bench overhead bench-report lint format lock

help: ## This list
	@echo "make TARGET [NAME=value …]"
	@sed -n 's/^\([a-zA-Z%-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | sed 's/%/NN/' | awk -F'|' '{ printf "%-14s  %s\n", $$1, $$2 }'
	@echo
	@echo "Options of exp-NN, sweep-NN and all:"
	@echo "  FULL=1                   the experiment's own setting instead of the quick one"
	@echo "  ARMS=a,b SEEDS=n         some arms (not of all); seeds 0 … n-1"
	@echo "  DATASET=name|folder      digits, mnist, fashion_mnist, cifar10, cifar100, another TFDS name, your own images"
	@echo "  EPOCHS=n BATCH=n TRAIN=n SIZE=n COLOUR=grey|rgb PRECISION=p THREADS=n REPLICAS=n   override the setting"
	@echo "  TUNER=halton|random|bayesian|hyperband TRIALS=n SWEEPS=n   of sweep-NN alone: how, points an arm, repetitions"
	@echo "  JOBS=n TRIALS_PER_GPU=n RESULTS=dir CHECKPOINT_STEPS=n STALL_SECONDS=n KEEP=1 SMOKE=1 DRY=1   how and where it runs"
	@echo "RESULTS=dir goes with list, verdict-NN, verdicts, report, plots and reproduce too, PYTHON=python3.12 with all"

setup: ## Create .venv with the locked packages, if that is not done yet (GPU=1: TensorFlow with CUDA)
	@cmp -s $(LOCK) .venv/installed.lock || { [ -z "$(call on,$(GPU))" ] && cmp -s requirements-gpu.lock .venv/installed.lock; } || { \
	  $(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("TensorFlow needs Python 3.11, 3.12 or 3.13: make setup PYTHON=python3.12. Received: Python %d.%d" % v)' && \
	  echo "Installing $(LOCK) into .venv (once) …" && \
	  { $(PYTHON) -m venv --clear .venv || { echo "python3 -m venv failed: install your system's python3-venv package" >&2; exit 1; }; } && \
	  $(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(LOCK) && \
	  cp $(LOCK) .venv/installed.lock; }

list: setup ## Number, question and progress of every experiment
	@$(PY) -m common.commands.list $(call option,RESULTS,results)

# Runs experiment NN with the options that its target adds.
define run
@script=$$(ls experiments/exp_$*_*.py 2>/dev/null | head -n 1); \
if [ -z "$$script" ]; then \
  echo "experiment must be one of $$(ls experiments | sed -n 's/exp_\([0-9]*\)_.*/\1/p' | paste -sd' ' -). Received: $*" >&2; exit 2; \
fi; \
exec $(PY) -m experiments.$$(basename $$script .py) $(1) $(OPTIONS)
endef

exp-%: setup ## Train experiment NN (01, 03, …) where rows are missing, then draw its figures
	$(call run)

all: setup ## All experiments one after the other, where rows are missing; one that fails does not stop the rest
	@$(PY) -m common.commands.all $(OPTIONS)

sweep-%: setup ## Search the hyperparameters of experiment NN with keras-tuner, for later runs of it
	$(call run,--sweep)

verdict-%: setup ## What the rows say of the claims of experiment NN, at 5, 10 or 20 seeds
	@$(PY) -m common.verdicts.ledger --number '$*' $(call option,RESULTS,results)

verdicts: setup ## The same for all experiments that have rows
	@$(PY) -m common.verdicts.ledger $(call option,RESULTS,results)

report: setup ## results/index.html, REPORT.md and a table per experiment (RESULTS=results/reference: README's table too)
	@$(PY) -m common.report.page $(call option,RESULTS,results)

reproduce: setup ## Run one published or own trial again and compare (ROW=first digits of its fingerprint)
	@$(PY) -m common.commands.reproduce $(call option,ROW,row) $(call option,RESULTS,results)

check: setup ## Fail when README states other results than the published rows
	@$(PY) -m common.report.page --check

plots: setup ## Draw the figures of all experiments that have rows
	@$(PY) -m common.figures.draw $(call option,RESULTS,results)

test: setup ## Run the tests (ARGS="-k name" for some)
	@$(PY) -m pytest -q $(ARGS)

chaos: setup ## Disturb a run in every way at once for some minutes; its rows must stay the same (ROUNDS=40)
	@PYTHONPATH=.:tests $(PY) tests/running/chaos.py $(call option,ROUNDS,rounds)

bench: setup ## Trials per hour against plain model.fit (and PyTorch, if installed), on CIFAR-10 (REPEATS=3 PRECISION=p TRAIN=n)
	@PYTHONPATH=. $(PY) benchmarks/throughput.py $(call option,REPEATS,repeats) $(call option,PRECISION,precision) $(call option,TRAIN,train)

overhead: setup ## Where the seconds of a run go (TRAIN=n)
	@PYTHONPATH=. $(PY) benchmarks/overhead.py $(call option,TRAIN,train)

bench-report: setup ## How long a report of 40 experiments takes, and how large its page is
	@PYTHONPATH=. $(PY) benchmarks/report.py

lint: setup ## ruff check and ruff format --check
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

format: setup ## Format the code
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

lock: setup ## Resolve requirements*.txt into the two lock files (needs uv: .venv/bin/pip install uv)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  requirements.txt -o requirements.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  --no-emit-package tensorflow-cpu requirements.txt requirements-gpu.txt -o requirements-gpu.lock
