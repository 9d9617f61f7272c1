#!/usr/bin/env bash
# Lays out (--fix) or checks the C and C++ sources, and looks for likely errors in the engine.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"

mapfile -t files < <(git ls-files 'csrc/*.c' 'csrc/*.cpp' 'csrc/*.h' 'docs/examples/*.c' \
    'docs/examples/*.cpp' 'tests/*.c' 'tests/*.cpp')
if [ "${1:-}" = --fix ]; then
    clang-format -i "${files[@]}"
    exit
fi
clang-format --dry-run --Werror "${files[@]}"
# FFmpeg's style is none that clang-format knows: no long lines but options, no tabs, clean ends.
if grep -nP '^(?!    \{ ").{101,}|\t|[ \t]+$' ffmpeg_filter/*.c ffmpeg_filter/*.h; then
    echo "ffmpeg_filter: these lines are longer than 100, or have tabs or spaces at their end" >&2
    exit 1
fi
# The parts without torch, whose headers no analyser gets through in reasonable time.
mapfile -t checked < <(git ls-files 'csrc/pairing/*.cpp' 'csrc/window/*.cpp' 'csrc/session/*.cpp' \
    'csrc/tag/*.cpp' 'csrc/backends/bicubic/*.cpp')
clang-tidy --quiet --warnings-as-errors='*' "${checked[@]}" -- \
    -std=c++17 '-DTDS_TORCH_VERSION=""' -Icsrc/include -Icsrc -isystem csrc/third_party 2>&1 | { grep -v ' warnings generated' || true; }
