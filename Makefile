# `make` prints all targets.

# These variables can be set on make's command line, not in the environment.
PYTHON = python3
GPU =
RAY =
ARGS =
unexport PYTHONPATH PYTHONHOME PYTHONOPTIMIZE PYTHONSAFEPATH PYTHONSTARTUP PYTHONINSPECT
export PYTHONUTF8 := 1
PY := .venv/bin/python
UV := .venv/bin/uv
TEST := $(PY) -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# A value quoted for the shell, and whether a switch is on; common/commands/options.py refuses other values of a switch.
quoted = '$(subst ','\'',$(1))'
on = $(filter-out 0 n N no No NO f F false False FALSE off Off OFF,$(value $(1)))
WITH := $(call quoted,$(value PYTHON))
# The lock files to install, and those of which a .venv may have been installed: one of the first two, and perhaps Ray.
# Ray stays installed when the other packages change.
HAS_RAY := $(shell grep -s '^ray==' .venv/installed.lock)
LOCK := $(if $(call on,GPU),requirements-gpu.lock,requirements.lock) $(if $(call on,RAY)$(HAS_RAY),requirements-ray.lock)
LOCKS := $(if $(call on,GPU),,requirements.lock) requirements-gpu.lock $(if $(call on,RAY),--with,--or-with) requirements-ray.lock

# Options are the variables on make's command line; common/commands/options.py declares them.
GIVEN := $(strip $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name))))
OPTIONS = $(foreach name,$(filter-out PYTHON GPU RAY ARGS,$(GIVEN)),$(call quoted,$(name)=$(value $(name))))
ALL_GIVEN = $(foreach name,$(GIVEN),$(call quoted,$(name)=$(value $(name))))
REFUSED := $(if $(GIVEN),$(shell $(WITH) -m common.commands.options $(ALL_GIVEN) -- $(foreach goal,$(MAKECMDGOALS),$(call quoted,$(goal)))))
$(if $(REFUSED),$(error $(REFUSED)))

.DEFAULT_GOAL := help
.PHONY: help setup all list status verdicts compare tensorboard report reproduce check plots test test-fast golden chaos chaos-ray bench bench-ray gpu-check overhead bench-report bench-rows power lint format lock

help: ## Print this list
	@echo "make TARGET [NAME=value …]"
	@sed -n 's/^\([a-zA-Z%-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | sed 's/%/NN/' | awk -F'|' '{ printf "%-14s  %s\n", $$1, $$2 }'
	@echo
	@echo "Options, first those of exp-NN, sweep-NN and all:"
	@$(WITH) -m common.commands.options

setup: ## Create .venv with the locked packages (GPU=1: with CUDA; RAY=1: with Ray)
	@why=$$($(PY) -I common/commands/venv.py $(LOCKS) 2>/dev/null) || { \
	  if [ -L .venv ]; then echo ".venv is a link to an environment that cannot be used: remove the link, then make setup. Received: $${why:-no Python}" >&2; exit 1; fi && \
	  $(WITH) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("TensorFlow needs Python 3.11, 3.12 or 3.13: make setup PYTHON=python3.12. Received: Python %d.%d" % v)' && \
	  echo "Installing $(strip $(LOCK)) into .venv (once$${why:+: $$why}) …" && \
	  { $(WITH) -m venv --clear .venv || { echo "python3 -m venv failed: install your system's python3-venv package" >&2; exit 1; }; } && \
	  $(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 --require-hashes --no-deps $(LOCK:%=-r %) && \
	  cat $(LOCK) >.venv/installed.lock && $(PY) -I common/commands/venv.py $(LOCKS); }

list: setup ## Print number, question and progress of every experiment
	@$(PY) -m common.commands.list $(OPTIONS)

status: setup ## Print which trials are being trained now, and where
	@$(PY) -m common.commands.status $(OPTIONS)

exp-%: setup ## Train the missing trials of experiment NN (01, 03, …) and draw
	@exec $(PY) -m common.commands.run '$*' $(OPTIONS)

all: setup ## Train the missing trials of all experiments; continues if one fails
	@$(PY) -m common.commands.all $(OPTIONS)

sweep-%: setup ## Search the hyperparameters of experiment NN with keras-tuner
	@exec $(PY) -m common.commands.run '$*' SWEEP=1 $(OPTIONS)

verdict-%: setup ## Print the verdicts on the claims of experiment NN
	@$(PY) -m common.commands.verdicts '$*' $(OPTIONS)

verdicts: setup ## Print the verdicts of all experiments with rows
	@$(PY) -m common.commands.verdicts all $(OPTIONS)

compare: setup ## Compare experiments in one figure and table (EXP=03,05: by all their arms)
	@$(PY) -m common.commands.compare $(OPTIONS)

tensorboard: setup ## Write event files from the rows, and start TensorBoard on them (EXP=03)
	@exec $(PY) -m common.commands.tensorboard $(OPTIONS)

report: setup ## Write index.html, REPORT.md, tables (of results/reference also README, docs)
	@$(PY) -m common.commands.report $(OPTIONS)

reproduce: setup ## Train the trial of a row again and compare (ROW=5fdad8ed)
	@$(PY) -m common.commands.reproduce $(OPTIONS)

check: setup ## Check that README, docs and docstrings agree with rows and code
	@$(PY) -m common.commands.report CHECK=1

plots: setup ## Draw the figures of all experiments with rows
	@$(PY) -m common.commands.plots $(OPTIONS)

test: setup ## Run the tests (ARGS="-k name" for some)
	@$(TEST) $(value ARGS)

test-fast: setup ## Run the tests that need no long training, within minutes (ARGS="-k name" for some)
	@$(TEST) -m "not slow" $(value ARGS)

golden: setup ## Record the golden values of tests/golden on this kind of processor
	@PYTHONPATH=. $(PY) tests/golden/golden.py

chaos: setup ## Stress test: kill and disturb a run for minutes; its rows stay the same
	@PYTHONPATH=.:tests $(PY) tests/running/chaos.py $(OPTIONS)

chaos-ray: setup ## Stress test on Ray's test cluster (needs make setup RAY=1); the rows stay the same
	@PYTHONPATH=.:tests $(PY) tests/running/chaos.py --engine ray $(OPTIONS)

bench: setup ## Measure trials per hour on CIFAR-10, compared with model.fit and PyTorch
	@PYTHONPATH=. $(PY) benchmarks/throughput.py $(OPTIONS)

gpu-check: setup ## Check on a GPU what only a GPU can show, and print a table
	@PYTHONPATH=. $(PY) benchmarks/gpu.py

bench-ray: setup ## Measure what Ray costs per trial (needs make setup RAY=1), and 100,000 simulated trials
	@PYTHONPATH=. $(PY) benchmarks/engines.py $(OPTIONS)

overhead: setup ## Measure how the time of a run is spent
	@PYTHONPATH=. $(PY) benchmarks/overhead.py $(OPTIONS)

bench-report: setup ## Measure time and size of a report of 40 experiments
	@PYTHONPATH=. $(PY) benchmarks/report.py

bench-rows: setup ## Measure the time of writing a row beside 1,000 to 100,000 others
	@PYTHONPATH=. $(PY) benchmarks/rows.py

power: setup ## Simulate verdicts: false alarms and power, as tables in docs/protocol.md
	@PYTHONPATH=. $(PY) benchmarks/power.py

lint: setup ## Run ruff check and ruff format --check
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

format: setup ## Format the code
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

lock: setup ## Resolve requirements*.txt into the lock files (needs uv)
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  requirements.txt -o requirements.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  --no-emit-package tensorflow-cpu requirements.txt requirements-gpu.txt -o requirements-gpu.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock" \
	  -c requirements.lock requirements-ray.txt -o requirements-ray.lock
