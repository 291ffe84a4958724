#!/usr/bin/env bash
# tests/headers/matrix.sh BUILD_DIR: other compilers, C libraries and processors. Slow.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
out=${1:?usage: tests/headers/matrix.sh BUILD_DIR}/matrix
source=tests/headers/implementation.c
passed=0 failed=0 skipped=0
mkdir -p "$out"

result() { # NAME COMMAND…
    local name=$1 log
    shift
    log=$out/$(printf '%s' "$name" | tr -c 'A-Za-z0-9\n' _).log
    if "$@" >"$log" 2>&1; then
        printf 'ok %s\n' "$name"
        passed=$((passed + 1))
    else
        printf 'FAILED %s\n' "$name"
        tail -n 30 "$log" | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

skip() {
    printf 'skipped %s: %s\n' "$1" "$2"
    skipped=$((skipped + 1))
}

missing() { # COMMAND…: prints the first that is not there
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || {
            printf '%s' "$command"
            return 0
        }
    done
    return 1
}

compiles() { # NAME COMPILER FLAGS…
    local name=$1 gone
    shift
    if gone=$(missing "$1"); then
        skip "$name" "there is no $gone"
    else
        result "$name" "$@" -c -o "$out/compiled.o" $source
    fi
}

# Every test program for another processor or C library, at a tenth of the effort.
runs() { # NAME RUNNER COMPILER FLAGS…
    local name=$1 runner=$2 test gone
    shift 2
    # shellcheck disable=SC2086 # the runner may be empty
    if gone=$(missing "$1" ${runner%% *}); then
        skip "$name" "there is no $gone"
        return
    fi
    for test in tests/test_*.c; do
        result "$name, $(basename "$test" .c)" run_one "$runner" "$test" "$@"
    done
}

run_one() { # RUNNER TEST COMPILER FLAGS…
    local runner=$1 test=$2 program
    shift 2
    program=$out/program
    "$@" -o "$program" "$test" || return 1
    # shellcheck disable=SC2086
    timeout 900 $runner "$program" --effort 10
}

compiles 'tcc' tcc
compiles 'gcc -std=c99 -fanalyzer' gcc -std=c99 -O1 -fanalyzer -Werror -DPAGENT_NO_FILE
compiles 'mingw, without POSIX' x86_64-w64-mingw32-gcc -std=c99 -O2 -Wall -Wextra -Werror -DPAGENT_NO_POSIX
compiles 'arm-none-eabi, core' \
    arm-none-eabi-gcc -std=c99 -Os -mthumb -ffreestanding -Wall -Wextra -Werror -DPAGENT_NO_FILE
runs 'musl' '' musl-gcc -std=c99 -O2 -static
runs '32 bits' '' gcc -m32 -I/usr/include/x86_64-linux-gnu -std=c99 -O2
runs 's390x, big-endian' qemu-s390x s390x-linux-gnu-gcc -static -std=c99 -O2
# Without 64-bit offsets the emulators of 32-bit processors cannot list a directory of a 64-bit host.
runs 'mips, big-endian, 32 bits' qemu-mips mips-linux-gnu-gcc -static -std=c99 -O2 -D_FILE_OFFSET_BITS=64
runs 'armhf' qemu-arm arm-linux-gnueabihf-gcc -static -std=c99 -O2 -D_FILE_OFFSET_BITS=64
runs 'riscv64' qemu-riscv64 riscv64-linux-gnu-gcc -static -std=c99 -O2
runs 'valgrind' 'valgrind -q --error-exitcode=9 --leak-check=full' gcc -std=c99 -O1 -g -DPAGENT_PORTABLE_CRC

printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed = 0 ]
