# Everything a developer or a build server runs. Each target makes what it needs.

# The first of these that is Python 3.11 or later; `make PYTHON=...` picks another.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# The base runs on Python 3.10 too, so it is tested there where there is one.
BASE_PYTHON ?= $(shell python3.10 -c '' 2>/dev/null && echo python3.10 || echo $(PYTHON))
# Processes that share the tests.
JOBS ?= 2
IN_PARALLEL = -n $(JOBS) --dist worksteal

DEBIAN_PACKAGES = bart ismrmrd-tools chromium dcmtk dicom3tools
# One program of each.
DEBIAN_PROGRAMS = bart ismrmrd_generate_cartesian_shepp_logan chromium storescp dciodvfy
# A variable, as a comma in the arguments of `call` would part them.
EXTRAS = training,int8,onnxruntime,server,dicom,tracing,ray,noncartesian
FULL = .venv/.installed
BASE = .venv-base/.installed
TENSORRT = .venv-tensorrt/.installed

.PHONY: help venv venv-base ci-deps lint test test-base test-full test-slow plans demo bench clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

venv: $(FULL)  ## full environment in .venv
venv-base: $(BASE)  ## torch-free environment in .venv-base

# $(call environment,FOLDER,PYTHON,CONSTRAINTS,WHAT): pip first, as old ones know no dependency groups, and the
# build backend with it, so that no version is left to chance. Modules are compiled when they are first imported: most
# never are, and all of them take longer than everything else of the installation.
define environment
	@test -n "$2" || { echo "Scanside needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $1/bin/pip || $2 -m venv $1
	$1/bin/python -m pip install --quiet --no-compile -c $3 pip hatchling
	$1/bin/python -m pip install --quiet --no-compile -c $3 --no-build-isolation -e $4
	touch $1/.installed
endef

$(FULL): pyproject.toml constraints.txt
	$(call environment,.venv,$(PYTHON),constraints.txt,'.[$(EXTRAS)]' --group dev)

$(BASE): pyproject.toml constraints-base.txt
	$(call environment,.venv-base,$(BASE_PYTHON),constraints-base.txt,. --group test)

# What builds plans of TensorRT-RTX. All else is found in .venv, which is linked in afterwards: pip must not take its
# packages for its own to replace.
$(TENSORRT): $(FULL) constraints-tensorrt.txt
	rm -rf .venv-tensorrt
	.venv/bin/python -m venv --without-pip .venv-tensorrt
	.venv/bin/python -m pip --python .venv-tensorrt/bin/python install --quiet --no-deps -r constraints-tensorrt.txt
	.venv/bin/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$(.venv-tensorrt/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/full.pth"
	touch $@

ci-deps:  ## Debian packages that tests compare with (when root)
	@missing=; for program in $(DEBIAN_PROGRAMS); do command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -z "$$missing" ]; then \
		echo "$(DEBIAN_PACKAGES): already here"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(DEBIAN_PACKAGES); \
	else \
		echo "not here:$$missing. Installing $(DEBIAN_PACKAGES) needs root and apt-get; tests that need them are skipped"; \
	fi

lint: $(FULL)  ## ruff and mypy --strict
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

test: lint test-base test-full  ## lint, then all quick tests in both environments

test-base: $(BASE)  ## the tests that need no torch, in the environment without it
	.venv-base/bin/python -m pytest -q $(IN_PARALLEL) -m "torch_free and not slow"

# $(call in_full,MARK): engines in processes of their own, as compilers and run times that load after everything else
# have ended one.
define in_full
	.venv/bin/python -m pytest -q $(IN_PARALLEL) -m "$1" --ignore tests/sdk/engines
	.venv/bin/python -m pytest -q $(IN_PARALLEL) -m "$1" tests/sdk/engines
	.venv-tensorrt/bin/python -m pytest -q $(IN_PARALLEL) -m "plans and $1" tests/sdk/engines tests/deploy
endef

test-full: $(FULL) $(TENSORRT)  ## all quick tests, in the full environment
	$(call in_full,not slow)

test-slow: $(FULL) $(TENSORRT)  ## the tests that take long
	$(call in_full,slow)

plans: $(TENSORRT)  ## TensorRT-RTX plans of every bundle in every precision, in out/plans; takes no GPU
	.venv-tensorrt/bin/python -m scanside_deploy.plans --output out/plans

demo: $(FULL)  ## simulate a scan, reconstruct it through the Gadgetron node, write out/demo
	.venv/bin/scanside demo --output out/demo

bench: $(FULL)  ## all benchmarks, as a table
	.venv/bin/scanside bench all

clean:  ## remove environments, results and caches
	rm -rf .venv .venv-base .venv-tensorrt out dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find sdk plugin tests -name __pycache__ -prune -exec rm -rf {} +
