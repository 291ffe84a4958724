#!/usr/bin/env bash
# tests/headers/size.sh BUILD_DIR: how large the header is, and the code that comes out of it.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
out=${1:?usage: tests/headers/size.sh BUILD_DIR}/size
source=tests/headers/implementation.c
mkdir -p "$out"

awk '/^#ifdef PERSISTENT_AGENT_IMPLEMENTATION/ { body = 1 }
     { lines[body + 0]++ }
     END { printf "%-46s %8d lines\n%-46s %8d lines\n", "persistent_agent.h: manual and declarations", lines[0],
                  "persistent_agent.h: implementation", lines[1] }' persistent_agent.h

row() { # NAME OBJECT
    size "$2" 2>/dev/null | awk -v name="$1" 'NR == 2 {
        printf "%-46s %8d bytes of code and constants, %d of data\n", name, $1, $2 + $3
    }'
}
build() { # NAME COMPILER FLAGS…
    local name=$1 object
    shift
    command -v "$1" >/dev/null || {
        printf '%-46s skipped: there is no %s\n' "$name" "$1"
        return
    }
    object=$out/$(printf '%s' "$name" | tr -c 'A-Za-z0-9\n' _).o
    "$@" -std=c99 -c -o "$object" $source && row "$name" "$object"
}
build 'gcc -O2, everything' gcc -O2
build 'gcc -O2, core' gcc -O2 -DPAGENT_NO_FILE
build 'gcc -Os, everything' gcc -Os
build 'gcc -Os, core' gcc -Os -DPAGENT_NO_FILE
build 'clang -Oz, core' clang -Oz -DPAGENT_NO_FILE
build 'arm-none-eabi-gcc -Os -mthumb, core' arm-none-eabi-gcc -Os -mthumb -ffreestanding -DPAGENT_NO_FILE
if command -v clang >/dev/null && command -v wasm-ld >/dev/null; then
    clang --target=wasm32 -Oz -ffreestanding -mbulk-memory -DPAGENT_NO_FILE -c $source -o "$out/core.wasm.o" &&
        wasm-ld --no-entry --export-all --strip-all "$out/core.wasm.o" -o "$out/core.wasm" &&
        printf '%-46s %8d bytes, %d gzipped\n' 'wasm32 -Oz, core, linked' "$(wc -c <"$out/core.wasm")" \
            "$(gzip -9 <"$out/core.wasm" | wc -c)"
else
    printf '%-46s skipped: clang or wasm-ld is missing\n' 'wasm32 -Oz, core'
fi
