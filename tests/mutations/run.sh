#!/usr/bin/env bash
# tests/mutations/run.sh BUILD_DIR [FILTER]: breaks the header on purpose, one entry of list.txt at a time, and demands
# that a test named there fails. list.txt explains itself. With --applies: only whether each still finds what it breaks.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
out=$(realpath -m "${1:?usage: tests/mutations/run.sh BUILD_DIR [FILTER]}")/mutate
filter=${2:-}
list=tests/mutations/list.txt
CC=${CC:-cc}
JOBS=${JOBS:-2}
SECONDS_MAX=${SECONDS_MAX:-120} # for one test; a mutant that hangs is found, too

# A tree in which only the header is a copy; its folders are its own, so that "../persistent_agent.h" is that copy.
make_tree() { # DIRECTORY
    local name
    rm -rf "$1"
    mkdir -p "$1/tests" "$1/examples"
    cp persistent_agent.h "$1/"
    for name in tests/* examples/*; do ln -s "$PWD/$name" "$1/$name"; done
}

# apply NAME HEADER: replaces in place. Each fragment must occur exactly once, in the function named by `in` if any.
apply() {
    awk -v wanted="$1" -v list="$list" '
        function stop(text) { print wanted ": " text > "/dev/stderr"; bad = 1; exit 1 }
        BEGIN {
            count = 0
            while ((getline row < list) > 0) {
                word = row; sub(/ .*/, "", word)
                rest = substr(row, length(word) + 2)
                sub(/^ +/, "", rest)
                if (word == "mutation") { here = rest == wanted; place = "" }
                else if (!here) continue
                else if (word == "in") place = rest
                else if (word == "find") { find[++count] = rest; within[count] = place }
                else if (word == "put") put[count] = rest
            }
            if (count == 0) stop("no such mutation, or it finds nothing")
        }
        {
            # A function begins at a line in column 1 that has its name and a parenthesis; it ends at a brace there.
            if ($0 ~ /^[a-zA-Z_].*\(/ && $0 !~ /;$/) { where = $0; sub(/\(.*/, "", where); sub(/.*[ *]/, "", where) }
            line = $0
            for (i = 1; i <= count; i++) {
                if (within[i] != "" && within[i] != where) continue
                at = index(line, find[i])
                if (at == 0) continue
                if (index(substr(line, at + 1), find[i])) stop("occurs twice in one line: " find[i])
                hits[i]++
                line = substr(line, 1, at - 1) put[i] substr(line, at + length(find[i]))
            }
            print line
            if ($0 ~ /^}/) where = ""
        }
        END {
            if (bad) exit 1
            for (i = 1; i <= count; i++) {
                if (hits[i] != 1) stop("occurs " hits[i] + 0 " times" \
                    (within[i] == "" ? "" : " in " within[i]) ", not once: " find[i])
            }
        }' "$2" >"$2.new" && mv "$2.new" "$2"
}

field() { # NAME FIELD: the values of a field of an entry, a line each
    awk -v wanted="$1" -v field="$2" '{ word = $1; rest = $0; sub(/^[^ ]+ +/, "", rest) }
        word == "mutation" { here = rest == wanted } here && word == field { print rest }' $list
}

# One test of a tree: "tests/test_x.c" or "test_x NAME". 0 passed, 1 failed, 2 does not compile.
run_test() { # DIRECTORY TEST
    local program
    # shellcheck disable=SC2086 # words
    set -- "$1" $2
    program=$1/$2
    # shellcheck disable=SC2046 # flags are words
    $CC -std=c99 -O1 -g -o "$program" "$1/tests/$2.c" $(./build.sh flags-of "tests/$2.c") \
        >"$program.build.log" 2>&1 || return 2
    (
        cd "$1" || exit 99
        shift 2
        timeout --kill-after=5 "$SECONDS_MAX" "$program" --effort "${EFFORT:-20}" "$@"
    ) >"$program.log" 2>&1 </dev/null && return 0
    return 1
}

# --one: prints one line: killed, SURVIVED, INVALID; the name; by what.
if [ "$filter" = --one ]; then
    name=$3
    tree=$out/$name
    make_tree "$tree"
    if ! text=$(apply "$name" "$tree/persistent_agent.h" 2>&1); then
        printf 'INVALID  %-34s %s\n' "$name" "$text"
        exit 0
    fi
    tried=''
    while IFS= read -r test; do
        run_test "$tree" "$test"
        case $? in
        1)
            printf 'killed   %-34s by %s\n' "$name" "$test"
            rm -rf "$tree"
            exit 0
            ;;
        2)
            printf 'INVALID  %-34s does not compile (see %s)\n' "$name" "$tree/${test%% *}.build.log"
            exit 0
            ;;
        esac
        tried="$tried, $test"
    done < <(field "$name" kill)
    printf 'SURVIVED %-34s %s\n' "$name" "${tried#, }"
    exit 0
fi

# --baseline: a test named in the list passes on the header as it is; otherwise its failing would prove nothing.
if [ "$filter" = --baseline ]; then
    tree=$out/baseline.$(printf '%s' "$3" | tr -c 'A-Za-z0-9\n' _)
    make_tree "$tree"
    if run_test "$tree" "$3"; then
        rm -rf "$tree"
    else
        printf 'INVALID  %-34s fails without any mutation (see %s)\n' "$3" "$tree"
    fi
    exit 0
fi

mkdir -p "$out"
if [ "$filter" = --applies ]; then
    passed=0 failed=0
    while IFS= read -r name; do
        cp persistent_agent.h "$out/applied.h"
        if apply "$name" "$out/applied.h"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    done < <(sed -n 's/^mutation  *//p' $list)
    printf '%d passed, %d failed, 0 skipped\n' $passed $failed
    [ $failed = 0 ]
    exit
fi
mapfile -t names < <(sed -n 's/^mutation  *//p' $list | grep -F -- "$filter")
[ ${#names[@]} -gt 0 ] || {
    echo "no mutation's name contains '$filter'"
    exit 1
}
repeated=$(sed -n 's/^mutation  *//p' $list | sort | uniq -d)
[ -z "$repeated" ] || {
    echo "two mutations have the name $repeated"
    exit 1
}
echo "the named tests on the header as it is:"
for name in "${names[@]}"; do field "$name" kill; done | sort -u |
    xargs -P "$JOBS" -d '\n' -n 1 "$0" "$1" --baseline | tee "$out/baseline.txt"
[ -s "$out/baseline.txt" ] || echo "all pass"
printf '%s\n' "${names[@]}" | xargs -P "$JOBS" -d '\n' -n 1 "$0" "$1" --one | tee "$out/results.txt"

killed=$(grep -c '^killed' "$out/results.txt")
lost=$((${#names[@]} - killed + $(wc -l <"$out/baseline.txt")))
printf '%d passed, %d failed, 0 skipped\n' "$killed" "$lost"
[ "$lost" = 0 ]
