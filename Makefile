# `make demo` and `make test` set everything up first: all they need is make, Python 3.11 to 3.13 with venv, and the
# package index. PYTHON=/path/to/python names the interpreter.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-prism test-flink test-spark lint docs site lock sbom audit clean

PYTHON ?=
REPEAT ?= 1
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WHEEL := dist/detectron2-0.6-py3-none-any.whl

help:
	@echo "make demo    ten photos through a small random network into demo/out"
	@echo "make test    the tests"
	@echo "make test-prism, test-flink, test-spark"
	@echo "             runs on that engine, which go or mvn fetches; REPEAT=20 repeats them: docs/engines.md"
	@echo "make lint    ruff and mypy"
	@echo "make docs    docs/flags.md and the Flex Template's metadata, from the flags themselves"
	@echo "make site    the documentation as a site, in build/site; broken links are errors. With"
	@echo "             SITE_WITHOUT_NETWORK=true it takes in what search and diagrams need of unpkg.com"
	@echo "make lock    requirements.lock and deploy/image.lock: constraints.txt with the hashes of every package's files"
	@echo "make sbom    sbom.cdx.json: the packages of $(VENV) with versions and licences; image.cdx.json: the image's"
	@echo "make audit   compares the packages of both locks with the known vulnerabilities; needs the public internet"
	@echo "make setup   only the environment, in $(VENV)"
	@echo "make clean   remove the environment, the demo and the caches"

setup: $(READY)

demo: $(READY)
	@run() { echo "+ $$*"; "$$@"; }
	run $(BIN)/python tools/sample_corpus.py demo/mscoco
	run $(BIN)/python -m beam_pipeline --corpus demo/mscoco --weights tests/data/tiny.caffemodel --output demo/out
	run find demo/out -type f -exec ls -l {} +

test: $(READY)
	@$(BIN)/python -m pytest -n 2 --dist worksteal

test-prism test-flink test-spark: $(READY)
	@$(BIN)/python -m tests.engines $(@:test-%=%) --repeat $(REPEAT)

lint: $(READY)
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	@$(BIN)/python tools/flags_page.py docs/flags.md

site: $(READY)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# --no-deps: constraints.txt names all packages; what is added are the hashes of all their files. The image takes what
# the workers need of them, but CUDA 12 in place of 13, see the Dockerfile.
UV := build/lock/bin/uv pip compile --quiet --generate-hashes --no-annotate --no-header --no-emit-package detectron2
lock: $(READY)
	@$(BIN)/python -m venv build/lock
	build/lock/bin/pip install --quiet uv==0.13.9
	$(UV) --no-deps --universal --python-version 3.11 --output-file requirements.lock constraints.txt
	$(BIN)/python tools/detectron2_wheel.py build
	{ grep -Ev '^(cuda-|nvidia-|torch|triton)' constraints.txt; cat deploy/cuda12.txt; } > build/image.txt
	echo build/*.whl > build/image.in
	$(UV) --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --constraint build/image.txt \
	  --extra gcp --extra formats --extra worker --output-file deploy/image.lock setup.py build/image.in

# In an environment of its own, so that the list holds what the project needs and nothing else. The image is built
# without triton, see the Dockerfile.
sbom: $(READY)
	@$(BIN)/python -m venv build/sbom
	build/sbom/bin/pip install --quiet cyclonedx-bom==7.5.0
	build/sbom/bin/cyclonedx-py environment $(BIN)/python --output-reproducible --output-file sbom.cdx.json
	sed '/^triton==/,/[^\\]$$/d' deploy/image.lock > build/sbom/image.txt
	build/sbom/bin/cyclonedx-py requirements build/sbom/image.txt --output-reproducible --output-file image.cdx.json

# --strict: a package that the service does not know of would otherwise pass without having been looked up.
audit: $(READY)
	@$(BIN)/python -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit==2.10.1
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement requirements.lock --requirement deploy/image.lock

clean:
	@rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

# The stamp goes first and comes back last: a set-up that was cut off starts again from an empty environment.
# detectron2 needs torch to be built, and an official (compiled) build that is already there is left alone.
$(READY): setup.py constraints.txt requirements.lock tools/detectron2_wheel.py
	@python=
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3.11 python3.12 python3.13 python3); do
	  if "$$candidate" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	    >/dev/null 2>&1; then python=$$candidate; break; fi
	done
	if [ -z "$$python" ]; then
	  echo "needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt-get install python3-venv), found none among:" \
	    "$(or $(PYTHON),python3.11 python3.12 python3.13 python3); name one: make PYTHON=/path/to/python" >&2
	  exit 1
	fi
	if [ ! -e $@ ]; then
	  echo "Setting up $(VENV) with $$("$$python" --version): about 3 GB to download, some minutes."
	  "$$python" -m venv --clear $(VENV)
	fi
	rm -f $@
	if [ "$$(uname -sm)" = 'Linux x86_64' ]; then
	  $(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	  $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	else
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools --editable '.[dev]'
	fi
	if ! $(BIN)/python -c 'import sys, torch, detectron2._C as c; sys.exit(c.__file__.endswith("_C.py"))' 2>/dev/null
	then
	  $(BIN)/python tools/detectron2_wheel.py dist
	  $(BIN)/python -m pip install --quiet --force-reinstall --no-deps $(WHEEL)
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt $(WHEEL)
	fi
	$(BIN)/python -m pip check
	touch $@
