# Two commands matter: `make run` and `make test`. Each also works without make: see README.md.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# without an NVIDIA GPU, torch's CPU build spares a download of several GB; empty: whatever pip finds
TORCH_INDEX ?= $(shell command -v nvidia-smi >/dev/null || echo https://download.pytorch.org/whl/cpu)

.PHONY: help install run check test notebooks evidence book figures bench links lint clean

help:  ## what can be done here
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(VENV)/.installed  ## the virtual environment, made once

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): some minutes and about 2 GB, the first time only"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),-$(BIN)/python -m pip install --quiet --no-deps --retries 1 --timeout 15 \
		--index-url $(TORCH_INDEX) $$(grep ^torch== constraints.txt))
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

run: install  ## distil a student: every notebook at toy scale, offline (SCALE=mini and more turn the dial)
	$(BIN)/distilnb run $(if $(SCALE),--scale $(SCALE))

check: install  ## lint, and the unit tests that start nothing and train little: before each commit
	$(MAKE) lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:nbval -n 2 -m "not slow" tests

test: install  ## unit tests, then every notebook through nbval (COVERAGE=all: the lines they run)
	PATH="$(abspath $(BIN)):$$PATH" bash tests/run.sh

notebooks: install  ## execute the notebooks and their solutions in place, as they are committed
	$(BIN)/distilnb run --in-place
	$(BIN)/distilnb run --in-place --solutions

evidence: install  ## every record of a scale, hours on two cores; goes on where it stopped (SCALE=mini JOBS=2)
	$(BIN)/distilnb evidence --scale $(or $(SCALE),mini) --jobs $(or $(JOBS),1)

book: install  ## notebooks, lesson plans and results as pages to read without running: book/index.html
	$(BIN)/sphinx-build -q -b html -c docs . book
	$(BIN)/distilnb demo --out book/demo
	for plan in 60 90 180; do $(BIN)/python -W ignore -m distilnb.lessons.slides $$plan book/slides-$$plan.html; done
	@echo "open book/index.html"

figures: install  ## redraw figures/ from the published records
	$(BIN)/distilnb figures

bench: install  ## our training against an older commit, Trainer and the obvious way, in turns; records go to runs/
	$(BIN)/python benchmarks/before.py
	for size in mini narrow base growth; do $(BIN)/python benchmarks/pretraining_step.py --size $$size || exit 1; done
	$(BIN)/python benchmarks/finetuning_step.py
	$(BIN)/python benchmarks/finetuning_step.py --size toy --net --rounds 20
	$(BIN)/python benchmarks/text_preparation.py

links: install  ## write address, badges, set-up cells and the notebook table anew: make links REPO=owner/name
	$(BIN)/distilnb links $(if $(REPO),--repo $(REPO))

lint:  ## ruff over package, tests and notebooks: rules, and the layout of the code
	$(if $(wildcard $(BIN)/ruff),$(BIN)/,)ruff check .
	$(if $(wildcard $(BIN)/ruff),$(BIN)/,)ruff format --check .

clean:  ## remove the environment and your own runs
	rm -rf $(VENV) runs
