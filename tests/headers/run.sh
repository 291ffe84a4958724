#!/usr/bin/env bash
# tests/headers/run.sh BUILD_DIR [FILTER]: does the header compile everywhere, alone, without a warning, and does it
# bring in nothing but its own names?
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
here=tests/headers
out=${1:?usage: tests/headers/run.sh BUILD_DIR [FILTER]}/headers
filter=${2:-}

COMMON='-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef -Werror'
FOR_C="$COMMON -Wstrict-prototypes -Wmissing-prototypes"
FOR_CXX="$COMMON -Wmissing-declarations"

check() { printf '%s\t%s\n' "$1" "$2"; }
skip() { printf '%s\tskip %s\n' "$1" "$2"; }
present() { command -v "$1" >/dev/null; }

# The ways to use the header that must compile with every compiler and standard.
compile_checks() { # COMPILER STANDARD FLAGS LANGUAGE
    local base="$1 -std=$2"
    if ! present "$1"; then
        skip "$base" "there is no $1"
        return
    fi
    check "$base, declarations" "$1 -x $4 -std=$2 $3 -fsyntax-only $here/declarations.c"
    case $2 in
    c99 | c++17) # what only the optimiser sees is the same in every standard
        check "$base, implementation -O2" "$1 -x $4 -std=$2 $3 -O2 -c -o /dev/null $here/implementation.c"
        check "$base, static" "$1 -x $4 -std=$2 $3 -DPERSISTENT_AGENT_STATIC -c -o /dev/null $here/implementation.c"
        ;;
    *) check "$base, implementation" "$1 -x $4 -std=$2 $3 -c -o /dev/null $here/implementation.c" ;;
    esac
}

# The configurations that the manual names, with both compilers.
configuration_checks() { # COMPILER
    local flags order
    if ! present "$1"; then
        skip "$1: configurations" "there is no $1"
        return
    fi
    for flags in -DPAGENT_NO_FILE -DPAGENT_NO_POSIX -DPAGENT_PORTABLE_CRC '-DPAGENT_NO_FILE -ffreestanding' -DNDEBUG \
        -DWITH_ASSERT -Os -O3; do
        check "$1 $flags" "$1 -std=c99 $FOR_C $flags -c -o /dev/null $here/implementation.c"
    done
    # POSIX headers before ours, or ours before its implementation, and nothing asked of them: it compiles, or says what
    # to do.
    for order in SYSTEM_HEADERS_FIRST DECLARATIONS_FIRST; do
        check "$1 $order, gnu99" "$1 -std=gnu99 $FOR_C -D$order -c -o /dev/null $here/implementation.c"
        check "$1 $order, c99: compiles or says the cure" "compiles_or_says_cure $1 $order"
    done
}

# Two files of one program: one implementation; or each its own; or in two languages.
link_checks() { # C_COMPILER CXX_COMPILER
    local c="$1 -std=c99 $FOR_C" static='-DPERSISTENT_AGENT_STATIC'
    if ! present "$1"; then
        skip "$1: two translation units" "there is no $1"
        return
    fi
    check "$1 two translation units" "two_units '$c' '$c' $1"
    check "$1 two translation units, both static" \
        "two_units '$c $static' '$c $static -DPERSISTENT_AGENT_IMPLEMENTATION' $1"
    if ! present "$2"; then
        skip "$1 with a $2 user" "there is no $2"
        return
    fi
    check "$1 with a $2 user" "two_units '$c' '$2 -x c++ -std=c++17 $FOR_CXX' $2"
    check "$2 with a $1 user" "two_units '$2 -x c++ -std=c++11 $FOR_CXX' '$c' $2"
}

# two_units COMPILE_IMPLEMENTATION COMPILE_USER LINKER: the program answers 0.
two_units() {
    local place
    place=$(mktemp -d "$out/units.XXXXXX")
    # shellcheck disable=SC2086 # words
    $1 -c -o "$place/a.o" $here/implementation.c && $2 -c -o "$place/b.o" $here/user.c &&
        $3 -o "$place/ab" "$place/a.o" "$place/b.o" && "$place/ab" && rm -r "$place"
}

compiles_or_says_cure() { # COMPILER ORDER
    local text
    text=$("$1" -std=c99 "-D$2" -c -o /dev/null $here/implementation.c 2>&1) && return 0
    printf '%s\n' "$text"
    # The first error is ours and names the cure.
    printf '%s\n' "$text" | grep -m 1 'error:' |
        grep -q 'persistent_agent.h: .*\(_GNU_SOURCE\|_POSIX_C_SOURCE\|_DEFAULT_SOURCE\)'
}

# Global names of ours begin with pagent_; what we need of others stands in symbols.txt.
symbols() { # freestanding|core|posix COMPILER FLAGS…
    local which=$1 object allowed wrong
    shift
    object=$out/symbols.$which.$(basename "$1").o
    case $which in
    freestanding) allowed='freestanding' ;;
    core) allowed='freestanding\|core' ;;
    *) allowed='freestanding\|core\|posix' ;;
    esac
    allowed='^('$(sed -n "s/^\($allowed\) //p" $here/symbols.txt | paste -sd '|')')$'
    "$@" -O2 -c -o "$object" $here/implementation.c || return 1
    wrong=$(nm -g --defined-only "$object" | awk '{ print $NF }' | grep -v '^pagent_')
    if [ -n "$wrong" ]; then
        printf 'global names without the prefix pagent_:\n%s\n' "$wrong"
        return 1
    fi
    wrong=$(nm -u "$object" | awk '{ print $NF }' | grep -Ev "$allowed")
    if [ -n "$wrong" ]; then
        printf 'needed from outside, but not for "%s" in %s/symbols.txt:\n%s\n' "$which" "$here" "$wrong"
        return 1
    fi
}

# Every public function that is declared is defined, and the other way round.
declared() {
    local object=$out/declared.o
    "${CC:-cc}" -std=c99 -O0 -c -o "$object" $here/implementation.c || return 1
    diff <(sed '/^#ifdef PERSISTENT_AGENT_IMPLEMENTATION/,$d' persistent_agent.h | grep -v '^ \*\|^    ' |
        sed -n 's/^PAGENT_API .*[ *]\(pagent_[a-z0-9_]*\)(.*/\1/p' | sort -u) \
        <(nm -g --defined-only "$object" | awk '{ print $NF }' | sort -u) >"$out/declared.txt" && return 0
    printf '< declared only, > defined only:\n'
    cat "$out/declared.txt"
    return 1
}

# No table of 8 KiB: it would not compress in a .wasm.
tables() {
    local object=$out/tables.o
    "${CC:-cc}" -std=c99 -O2 -fno-pic -fno-pie -DPAGENT_PORTABLE_CRC -c -o "$object" $here/implementation.c || return 1
    nm -S --size-sort "$object" | awk '$3 ~ /[rRdDbB]/ && length($2) == 16 {
        size = 0; hex = "0123456789abcdef"
        for (i = 1; i <= 16; i++) size = size * 16 + index(hex, substr($2, i, 1)) - 1
        if (size >= 8192) { print $4 " has " size " bytes"; bad = 1 }
        if ($3 ~ /[dDbB]/) { print $4 " is not const: the library has no globals"; bad = 1 }
    } END { exit bad }'
}

# After the implementation no macro of ours is left but PAGENT_…, and the declarations alone define no other.
macros() {
    local wrong
    wrong=$("${CC:-cc}" -std=c99 -DPAGENT_NO_FILE -dM -E $here/implementation.c |
        awk '{ sub(/\(.*/, "", $2); print $2 }' | sort |
        comm -23 - <(printf '#include <stddef.h>\n#include <stdint.h>\n' | "${CC:-cc}" -std=c99 -dM -E -x c - |
            awk '{ sub(/\(.*/, "", $2); print $2 }' | sort) |
        grep -v '^PAGENT_\|^PERSISTENT_AGENT_')
    [ -z "$wrong" ] && return 0
    printf 'macros that outlive the header:\n%s\n' "$wrong"
    return 1
}

# The core for a browser: nothing is missing at link time but what wasm_imports.txt names.
wasm() { # FLAGS…
    local object=$out/core.wasm.o
    clang --target=wasm32 -std=c99 "$@" -ffreestanding -nostdlib -Wall -Wextra -Werror -DPAGENT_NO_FILE -c \
        -o "$object" $here/implementation.c &&
        wasm-ld --no-entry --export-all "$object" -o "$out/core.wasm"
}

# One scenario in two builds of other processors must write the same journal and give the same answers.
golden() { # COMPILER RUNNER: builds and runs tests/test_golden.c
    local compiler=$1 runner=${2:-} program
    program=$out/golden.$(basename "$compiler" | tr -d ' ')
    # shellcheck disable=SC2086 # words
    $compiler -std=c99 -O1 -o "$program" tests/test_golden.c || return 1
    # shellcheck disable=SC2086
    $runner "$program" >"$program.log" 2>&1 || {
        tail -n 40 "$program.log"
        return 1
    }
    tail -n 1 "$program.log" | grep -Eq '^[1-9][0-9]* passed, 0 failed' || {
        tail -n 40 "$program.log"
        return 1
    }
}

golden_checks() {
    local multilib small='gcc -m32 -I/usr/include/x86_64-linux-gnu'
    if [ ! -f tests/test_golden.c ]; then
        skip 'golden journals' 'there is no tests/test_golden.c'
        return
    fi
    if present s390x-linux-gnu-gcc && present qemu-s390x; then
        check 'golden journals, big-endian (s390x)' "golden 's390x-linux-gnu-gcc -static' qemu-s390x"
    else
        skip 'golden journals, big-endian (s390x)' 'gcc-s390x-linux-gnu, libc6-dev-s390x-cross or qemu-user is missing'
    fi
    multilib=$(gcc -print-file-name=32 2>/dev/null)
    if [ -e "$multilib/libgcc.a" ]; then
        check 'gcc -m32' "$small -std=c99 $FOR_C -O2 -c -o /dev/null $here/implementation.c"
        check 'golden journals, 32 bits' "golden '$small'"
    else
        skip 'golden journals, 32 bits' "this gcc has no 32-bit libraries (package gcc-VERSION-multilib)"
    fi
}

list_checks() {
    local compiler standard which
    for compiler in gcc clang; do
        for standard in c99 c11 c17 c2x; do compile_checks $compiler $standard "$FOR_C" c; done
    done
    for compiler in g++ clang++; do
        for standard in c++11 c++17 c++20; do compile_checks $compiler $standard "$FOR_CXX" c++; done
    done
    for compiler in gcc clang; do configuration_checks $compiler; done
    link_checks gcc g++
    link_checks clang clang++
    for compiler in gcc clang; do
        for which in 'freestanding -DPAGENT_NO_FILE -ffreestanding' 'core -DPAGENT_NO_FILE' 'core -DPAGENT_NO_POSIX' \
            'posix'; do
            if present $compiler && present nm; then
                check "$compiler symbols: $which" "symbols ${which%% *} $compiler -std=c99 ${which#"${which%% *}"}"
            else
                skip "$compiler symbols: $which" "there is no $compiler or no nm"
            fi
        done
    done
    check 'every public function is declared and defined' declared
    check 'no table of 8 KiB, no global variable' tables
    check 'no macro is left behind' macros
    if present clang && present wasm-ld; then
        check 'wasm32 freestanding -Oz' 'wasm -Oz -mbulk-memory'
        check 'wasm32 freestanding -O0, without bulk memory' 'wasm -O0'
        check 'wasm32 freestanding -O2, without bulk memory' 'wasm -O2'
    else
        skip 'wasm32 freestanding' 'clang or wasm-ld (package lld) is missing'
    fi
    golden_checks
}

# --one: runs one line of the list, printing its result whole.
if [ "$filter" = --one ]; then
    IFS=$'\t' read -r name command <<<"$3"
    case $command in
    skip\ *)
        printf 'skipped %s: %s\n' "$name" "${command#skip }"
        exit 0
        ;;
    esac
    if text=$(eval "$command" 2>&1); then
        printf 'ok %s\n' "$name"
    else
        printf 'FAILED %s\n%s\n' "$name" \
            "$(printf '%s\n    in: %s\n' "$(printf '%s' "$text" | head -n 12)" "$command" | sed 's/^/    /')"
    fi
    exit 0
fi

mkdir -p "$out"
list_checks | awk -F '\t' -v filter="$filter" 'index($1, filter)' |
    xargs -P "${JOBS:-2}" -d '\n' -n 1 "$0" "$1" --one >"$out/results.txt"
cat "$out/results.txt"
passed=$(grep -c '^ok ' "$out/results.txt") failed=$(grep -c '^FAILED ' "$out/results.txt")
skipped=$(grep -c '^skipped ' "$out/results.txt")
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
