# Build, try, test and check. `make help` lists the targets.
# Everything is installed into .venv. Outside this folder only models are exported, into
# ~/.cache/tds (TDS_CACHE); `make ffmpeg`, as root, also installs what it lacks by apt (APT=0: not).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := build/native
# A CPU build is enough for everything but CUDA; set TORCH=torch for the index's own choice.
TORCH ?= torch==2.13.0
DEMO ?= tests/data/city.mkv
# Ninja and the other programs of requirements-dev.txt, for CMake and scripts to find.
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help venv install demo wheel ffmpeg test test-cpp test-python lint format docs docs-site \
	test-torch test-wheel container locks bench \
	sanitize fuzz torture soak soak-live faults test-vtm test-cuda clean

help:
	@echo "make demo      build everything, then code, decode, enhance and compare the bundled clip"
	@echo "make test      all tests, C++ and Python"
	@echo "make ffmpeg    ffmpeg and ffprobe with the filter tds_enhance, in build/ffmpeg (minutes, once)"
	@echo "make wheel     a package for others to install, in dist, for this Python and this torch"
	@echo "make test-wheel   that package in an empty environment, without torch and with it"
	@echo "make container an image with tds, its models and that ffmpeg, by podman, docker or buildah"
	@echo "make locks     packaging/locks anew: the newest versions of what image and wheel are made of"
	@echo "make install   the package, into .venv (what demo, ffmpeg and test do first)"
	@echo "make test-cpp, make test-python   one half of the tests"
	@echo "make lint      ruff, mypy, stubtest, shellcheck, clang-format, clang-tidy, the site of the docs"
	@echo "make bench     the benchmarks, side by side (minutes)"
	@echo "make sanitize  the engine's tests under AddressSanitizer and UBSan, then ThreadSanitizer"
	@echo "make fuzz SECONDS=600   every parser and the engine with inputs made at random (clang)"
	@echo "make torture CASES=10000   damaged pairs through every door; commands killed and starved"
	@echo "make soak SECONDS=3600   a looped pair through the filter and tds decode, memory watched"
	@echo "make soak-live SECONDS=600   the same of a pair that is sent over UDP, with its latency"
	@echo "make faults    five faults put back in a copy of the tree: each must be caught"
	@echo "make test-vtm, make test-cuda   what CI skips, and what they want for it"
	@echo "make format    lay the code out as lint wants it"
	@echo "make docs      what docs/ and share/ have that is made of the code: tables, schemas, manual page"
	@echo "make docs-site the documentation as a site, in build/site"
	@echo "make test-torch TORCH=torch==2.12.0   the package and tests of models with another torch"
	@echo "make clean     remove what was built"

# The stamps hold what pip has installed, so that a second call does nothing.
$(VENV)/.tools: requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
# torch first and by itself: the engine is built against it, and a build in
# isolation (or a wider request) would fetch gigabytes of CUDA libraries instead.
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

SOURCES := $(shell find csrc python models -type f -not -name '*.so' -not -path '*/__pycache__/*' 2>/dev/null)

$(VENV)/.installed: $(VENV)/.tools pyproject.toml CMakeLists.txt $(SOURCES)
	$(BIN)/python -m pip install --quiet --no-build-isolation .
	@touch $@

venv: $(VENV)/.tools
install: $(VENV)/.installed

demo: install
	$(BIN)/tds demo $(DEMO) --out out

wheel: venv
	$(BIN)/python packaging/wheel.py

# As another would: into an empty environment, without torch, which then comes later.
TRY := cd build/wheel && bin/tds demo --codec hevc --preset ultrafast --quiet
test-wheel: wheel
	$(BIN)/python packaging/sbom.py "$$(ls -t dist/*.whl | head -1)"
	rm -rf build/wheel && $(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet "$$(ls -t dist/*.whl | head -1)"
	$(TRY) | grep "only up-sampled"
	build/wheel/bin/python -m pip install --quiet "$(TORCH)"
	$(TRY) | grep "Model: fast"

container:
	@builder=$$(command -v podman || command -v docker || command -v buildah) || \
		{ echo "make container needs podman, docker or buildah" >&2; exit 1; }; \
	"$$builder" build -t tds -f packaging/Containerfile --build-arg "TORCH=$(TORCH)" .

# Every package that the image runs and the wheel is made with, by version and hash of its files.
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest \
	--python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make locks"
locks: venv
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) pyproject.toml packaging/locks/torch.in -o packaging/locks/runtime.txt
	$(LOCK) pyproject.toml packaging/locks/torch.in packaging/locks/build.in \
		-c packaging/locks/runtime.txt -o packaging/locks/build.txt

# The filter's tests run when this has been called; FFMPEG_SRC=... names a source tree of yours.
ffmpeg: install
	ffmpeg_filter/build

test: test-cpp test-python

test-cpp: venv
	$(BIN)/cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release -DTDS_TESTS=ON \
		-DPython_EXECUTABLE=$(abspath $(BIN))/python >/dev/null
	$(BIN)/cmake --build $(BUILD)
	$(BIN)/ctest --test-dir $(BUILD) --output-on-failure

test-python: install
	$(BIN)/python -m pytest tests -q -n 2 -rs

# stubtest holds the stub of the Python module against the module that is installed.
lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/stubtest tds._tds --allowlist tests/stubtest.txt --mypy-config-file pyproject.toml
	git ls-files -z | xargs -0 grep -lIE -m1 '^#!.*\b(ba)?sh$$' | xargs $(BIN)/shellcheck --severity=warning
	tests/lint_cpp.sh
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	tests/lint_cpp.sh --fix

docs: install
	$(BIN)/python docs/tables.py

# Strict: a link that leads nowhere ends it. Material's notice of its successor is no fault here.
docs-site: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "Written: build/site (open build/site/index.html)"

# The package and its tests of models with another torch, as TORCH says (minutes, by hand).
test-torch:
	$(MAKE) VENV=build/torch install
	build/torch/bin/python -m pytest tests/models/test_model_engine.py tests/test_enhance.py -q

bench: install
	$(BIN)/python benchmarks/run_all.py

sanitize: venv
	$(BIN)/cmake -S . -B build/asan -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTDS_TESTS=ON \
		-DTDS_PYTHON=OFF -DTDS_SANITIZE=address,undefined \
		-DPython_EXECUTABLE=$(abspath $(BIN))/python >/dev/null
	$(BIN)/cmake --build build/asan
	$(BIN)/ctest --test-dir build/asan --output-on-failure
# torch is not built for it, and its threads would be reported.
	$(BIN)/cmake -S . -B build/tsan -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTDS_TESTS=ON \
		-DTDS_PYTHON=OFF -DTDS_TORCH=OFF -DTDS_SANITIZE=thread \
		-DPython_EXECUTABLE=$(abspath $(BIN))/python >/dev/null
	$(BIN)/cmake --build build/tsan
	$(BIN)/ctest --test-dir build/tsan --output-on-failure

# All targets together, for so long; what it finds is in build/fuzz/found.
fuzz: SECONDS = 600
fuzz: install
	$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS)

torture: CASES = 10000
torture: install
	$(BIN)/python tests/torture/torture.py --cases $(CASES)
	$(BIN)/python tests/torture/hardship.py

soak: SECONDS = 3600
soak: install
	$(BIN)/python tests/torture/soak.py --seconds $(SECONDS)

soak-live: SECONDS = 600
soak-live: install
	$(BIN)/python tests/torture/soak.py --live --seconds $(SECONDS)

faults: install
	$(BIN)/python tests/torture/faults.py

# -rs says of each test that is skipped why.
test-vtm: install
	@echo "Wants TDS_VTM_BIN and TDS_HM_BIN, folders of their programs; see docs/vtm.md"
	$(BIN)/python -m pytest tests/vtm -q -rs

test-cuda: install
	@echo "Wants a CUDA device that torch sees"
	$(BIN)/python -m pytest tests -q -rs -k cuda

clean:
	rm -rf build dist out $(VENV)
