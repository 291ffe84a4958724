#!/usr/bin/env bash
# tests/headers/tidy.sh BUILD_DIR: what the repository as a whole must look like.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
export LC_ALL=C.UTF-8
passed=0 failed=0 skipped=0
header=persistent_agent.h

# What is committed or about to be; without git, everything but build/.
files() {
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -co --exclude-standard | while IFS= read -r file; do
            [ ! -e "$file" ] || printf '%s\n' "$file"
        done
    else
        find . -type f -not -path './build/*' -not -path './.git/*' | sed 's,^\./,,'
    fi
}
mapfile -t all < <(files)
mapfile -t text < <(grep -lI '' -- "${all[@]}")
mapfile -t code < <(printf '%s\n' "${text[@]}" | grep -E '\.(c|h|sh|mjs|js|ts|css|html)$|^build\.sh$|^\.ci/run$')

# verdict NAME TEXT: the check passes when TEXT is empty.
verdict() {
    if [ -z "$2" ]; then
        printf 'ok %s\n' "$1"
        passed=$((passed + 1))
    else
        printf 'FAILED %s\n' "$1"
        printf '%s\n' "$2" | head -n 20 | cut -c1-200 | sed 's/^/    /'
        failed=$((failed + 1))
    fi
}

# Written so that they do not match themselves.
forbidden='(^|[^a-z.])/(wor[k]|roo[t]|hom[e])/|[a]nthropic|[c]laude|[c]opilot'
forbidden+='|reg[i]stry\.|deb[.]debian|\.int[e]rnal\b|\bi[s]sue #?[0-9]'
verdict 'no path of one machine, no host of a registry, no unfinished note' \
    "$(grep -nEi -- "$forbidden" "${text[@]}"; grep -nE -- '\b([T]ODO|[F]IXME|[X]XX)\b' "${text[@]}")"

allowed='persistent_agent.h|tests|wasm|examples|build.sh|README.md|CHANGELOG.md|SECURITY.md|LICENSE|.ci'
allowed+='|.clang-format|.gitignore'
verdict 'only the agreed names at the top' \
    "$(printf '%s\n' "${all[@]}" | sed 's,/.*,,' | sort -u | grep -vxE "${allowed//./\\.}")"
verdict 'the agreed names are there' "$(for name in persistent_agent.h tests examples build.sh README.md CHANGELOG.md \
    SECURITY.md LICENSE .ci/run .clang-format .gitignore; do [ -e $name ] || echo "$name is missing"; done)"

verdict 'no tab' "$(grep -nP '\t' -- "${text[@]}")"
verdict 'no space at the end of a line' "$(grep -nE ' +$' -- "${text[@]}")"
verdict 'no carriage return' "$(grep -lP '\r' -- "${text[@]}")"
verdict 'every text file ends with one newline' "$(for name in "${text[@]}"; do
    [ ! -s "$name" ] || [ "$(tail -c 1 "$name" | wc -l)" = 1 ] || echo "$name: no newline at its end"
    [ "$(tail -n 1 "$name")" != '' ] || [ ! -s "$name" ] || echo "$name: an empty line at its end"
done)"
# What Prettier formats (--single-quote --print-width 120) may hold longer texts.
mapfile -t wrapped < <(printf '%s\n' "${code[@]}" | grep -vE '^wasm/.*\.(m?js|ts|html|css)$')
verdict 'no line of code over 120 columns' "$(grep -nE '^.{121}' -- "${wrapped[@]}")"
verdict 'scripts are executable' "$(printf '%s\n' build.sh .ci/run "${all[@]}" | grep -E '\.sh$|^\.ci/run$' |
    while IFS= read -r name; do [ -x "$name" ] || head -n 1 "$name" | grep -vq '^#!' || echo "$name"; done)"
verdict 'no file over 1 MiB' "$(find "${all[@]}" -size +1024k)"

if [ -f "$header" ]; then
    first=$(grep -nE '^(typedef|struct|enum|union) ' "$header" | head -n 1 | cut -d: -f1)
    verdict 'prose before the first type: under 250 lines' \
        "$([ "${first:-0}" -lt 250 ] || echo "the first type stands in line $first")"
    version=$(sed -n 's/^#define PAGENT_VERSION "\(.*\)"/\1/p' "$header")
    verdict "version $version is the newest in CHANGELOG.md" \
        "$([ "$(sed -n 's/^## \[\{0,1\}\([0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1)" = "$version" ] ||
            echo "CHANGELOG.md begins with another version than $version")"
    verdict 'the header begins with its version' "$(head -n 3 "$header" | grep -qF "$version" || head -n 3 "$header")"
    verdict 'public types begin with pagent_' "$(sed '/^#ifdef PERSISTENT_AGENT_IMPLEMENTATION/,$d' "$header" |
        grep -oE '^(typedef (struct|enum|union)|struct|enum|union) [A-Za-z_]+' | grep -vE ' pagent_')"
    verdict 'no name begins with an underscore' "$(grep -nE '^(static [a-z0-9_ ]+[ *]|#define )_[A-Za-z]' "$header" |
        grep -vE '_GNU_SOURCE|_POSIX_C_SOURCE|_XOPEN_SOURCE|_DEFAULT_SOURCE|_DARWIN_C_SOURCE|_FILE_OFFSET_BITS')"
    verdict 'no function over 100 lines' "$(awk '/^\{$/ { start = NR } /^\}$/ && start { if (NR - start > 100)
        print FILENAME ":" start ": " NR - start " lines"; start = 0 }' "$header")"
else
    verdict "$header is there" 'it is missing'
fi

printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed = 0 ]
