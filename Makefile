# make image   set everything up and draw "a street with no cars", vanilla CLIP beside NegationCLIP
# make test    set everything up and run the tests
# make lint    style and types
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.negclip-installed

# Without it, two-thread torch on shared cores runs up to ten times slower.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: image test lint docs
.DELETE_ON_ERROR:

image: $(STAMP)
	$(BIN)/negclip generate "a street with no cars" --compare --out out
	@echo "The picture, vanilla CLIP beside NegationCLIP: out/a-street-with-no-cars-compare.png"

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/python -m pipelines.command_reference

# The stamp goes first and comes back last: an interrupted install leaves none, and the next call starts afresh.
# The .pth line lets plain `import diffusers` work in this environment beside a CPU torch (torchvision_cpu.py).
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("negclip needs Python 3.10 or newer, this is %d.%d; try: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	@if [ -e $(STAMP) ]; then rm $(STAMP); else $(PYTHON) -m venv --clear $(VENV); fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "negclip_torchvision.pth").write_text("import importlib.util as u; u.find_spec(\"negclip_core\") and __import__(\"negclip_core\")\n")'
	@touch $(STAMP)
