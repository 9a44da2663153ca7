# Every target first makes the environment (VENV) and pulls the default weights if they are missing.
#   make curate [DUMP=folder] [OUT=out/sample] [RECIPE=sample|video|text|web|emu3_5]      make train [DATA=out/sample] [RECIPE=auto]
#   make demo     a small world of landscapes: drawn, curated, learned; then what is new to it is drawn, and the page to draw
#                 on is served (PAGE= leaves that out). About 6 CPU-minutes
#   make test   make test-slow   make check   make bench   make bench-peers [PEERS=...]
#   make torture [MINUTES=10] [SEED=N]
#   make docs   the documentation as a site, build/site/index.html
# TORCH: what pip installs first. On a machine with a GPU: make curate TORCH="torch torchvision"; an environment that
# already has torch: TORCH= . JOBS: processes that run the fast tests. PIP_ARGS goes to every pip call (a mirror, a find-links folder with a CPU build of torch).

VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0 torchvision==0.28.0
PIP_ARGS ?=
JOBS ?= 2
MINUTES ?= 10
SEED ?=
BIN := $(VENV)/bin
RECIPE ?= $(if $(DUMP),video,sample)
NARRATED := $(filter emu3_5,$(RECIPE))
SAMPLE := build/$(if $(NARRATED),narrated,sample)-dump
OUT ?= out/$(if $(DUMP),$(notdir $(patsubst %/,%,$(DUMP))),$(if $(NARRATED),narrated,sample))
DATA ?= out/sample
PAGE ?= yes

export OMP_NUM_THREADS ?= 1

.PHONY: curate train demo test test-slow torture check lint types docs bench bench-peers clean

curate: $(VENV)/.ready
	$(if $(DUMP),,@echo "The sample dump: about 2 minutes on 2 cores.")
	$(if $(DUMP),,test -f $(SAMPLE)/.complete || { $(BIN)/reelmill sample-dump $(SAMPLE) $(if $(NARRATED),--narrated) && touch $(SAMPLE)/.complete; })
	$(BIN)/reelmill curate $(or $(DUMP),$(SAMPLE)) --out $(OUT) --recipe $(RECIPE)

train: RECIPE = auto
train: $(VENV)/.ready
	@echo "On out/sample about 5 CPU-minutes; every step says how long the rest will take."
	test -f $(DATA)/run.json || $(MAKE) curate OUT=$(DATA) RECIPE=sample
	$(BIN)/reelmill train $(RECIPE) --data $(DATA)

demo: $(VENV)/.ready
	@echo "About 6 CPU-minutes, then a page until Ctrl-C."
	test -f build/landscapes/new.txt || $(BIN)/python examples/landscapes/draw.py build/landscapes
	$(BIN)/reelmill curate build/landscapes/pictures --out out/landscapes --recipe examples/landscapes/curate.toml
	$(BIN)/reelmill train examples/landscapes/train.toml --data out/landscapes --out runs/landscapes
	$(BIN)/reelmill generate runs/landscapes --prompts build/landscapes/new.txt --temperature 0.6 --out runs/landscapes/new/drawn.png
	$(BIN)/python examples/landscapes/sheet.py runs/landscapes/new.png runs/landscapes/new/*.png
	$(if $(PAGE),$(BIN)/reelmill serve runs/landscapes)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow and not gpu" -n $(JOBS) --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m "slow and not gpu" --timeout 3600

torture: $(VENV)/.dev
	PYTHONPATH=tests/helpers $(BIN)/python -m torture --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

check: lint types docs test

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -f site/mkdocs.yml

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.dev
	for bench in ocr motion; do $(BIN)/python bench/$$bench.py || exit; done

# PEERS="curation trl": some of them. Their environments and the table lie in build/peers.
bench-peers: $(VENV)/.dev
	$(BIN)/python bench/peers.py $(PEERS) --pip-args "$(PIP_ARGS)"

clean:
	rm -rf build out $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing into $(VENV): 2 to 4 minutes, as the network allows."
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH),$(BIN)/pip install -q $(PIP_ARGS) $(TORCH))
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt -e .
	touch $@

$(VENV)/.ready: $(VENV)/.installed $(wildcard reelmill/cards/*.toml)
	$(BIN)/reelmill models pull
	touch $@

$(VENV)/.dev: $(VENV)/.ready
	$(BIN)/pip install -q $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	touch $@
