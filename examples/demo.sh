#!/bin/sh
# demo.sh PROGRAMS WORK [SEED] - the main job, killed again and again.
#
# PROGRAMS is the directory with the program `review` (and, if it is there, `pagentctl`); WORK is an empty directory.
# Real documents are reviewed: this repository's own, and the system's licence texts where they exist. The process that
# reviews them is killed with SIGKILL at least 20 times: at a host call that the seed picks, or by time. Between them
# and during the runs a second process approves, rejects, edits and cancels. In the end the journal, the reports and a
# witness file must tell one story; if anything is off, the exit status is not 0.
set -u

if [ $# -lt 2 ]; then
    echo "usage: demo.sh PROGRAMS WORK [SEED]" >&2
    exit 2
fi
programs=$(cd "$1" && pwd) || exit 2
work=$(cd "$2" && pwd) || exit 2
seed=${3:-1}
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2

store=$work/store
out=$work/reports
witness=$work/witness.txt
log=$work/run.log
KILLS=20      # at a host call
TIME_KILLS=5  # by time
DOCUMENTS=13  # at most, from the start; later, while an owner runs, one more for each kill by time
licences=${DEMO_LICENCES:-/usr/share/common-licenses}
number=$seed
kills=0
wrong=0

: >"$witness"
: >"$log"

# DEMO_OPTIONS: more options for every call, such as --log-per-agent.
# shellcheck disable=SC2086 # several options are several words
review() { "$programs/review" --store "$store" --out "$out" --wait 90 ${DEMO_OPTIONS:-} "$@"; }
# In the background, so that $owner is the program itself and not a shell around it.
own() {
    # shellcheck disable=SC2086
    "$programs/review" --store "$store" --out "$out" ${DEMO_OPTIONS:-} run --watch --witness "$witness" >>"$log" 2>&1 &
    owner=$!
}
say() { printf '%s\n' "$*"; }
fault() {
    say "WRONG: $*"
    wrong=$((wrong + 1))
}

# The next number of a small generator, 0 ... 2^31 - 1: the same seed gives the same kills.
roll() {
    number=$(((number * 1103515245 + 12345) % 2147483648))
    echo $((number / 8 % $1)) >"$work/rolled"
    read -r rolled <"$work/rolled"
}

# Documents with an open question, one a line.
asking() { review status --json | sed -n 's/.*"id":"\([^"]*\)".*"question":true.*/\1/p' | grep -v '^nobody'; }
in_work() {
    review status --json | grep '"question":false' |
        grep -c -v '"state":"\(published\|rejected\|cancelled\|failed\)"'
}
first_asking() { asking | sed -n 1p; }

where() {
    review status --json 2>/dev/null | awk '
        { total++ }
        /"state":"published"/ { published++ }
        /"state":"(rejected|cancelled)"/ { ended++ }
        /"question":true/ { asking++ }
        END { printf "%d published, %d ended otherwise, %d ask a person, %d in work", published, ended, asking,
                     total - published - ended - asking }'
}

# One decision by a second process; which one, the generator says. $1: what the owner does meanwhile.
decide() {
    id=$(first_asking)
    [ -n "$id" ] || return 0
    roll 12
    case $rolled in
    0) verb=reject ;;
    1) verb=cancel ;;
    2 | 3) verb=edit ;;
    *) verb=approve ;;
    esac
    case $verb in
    reject) review reject "$id" --as editor --reason "too risky as it stands" >>"$log" 2>&1 ;;
    edit)
        printf 'A person has read %s and wrote this summary by hand.\n' "$id" >"$work/summary.md"
        review edit "$id" "$work/summary.md" --as editor >>"$log" 2>&1
        ;;
    *) review "$verb" "$id" --as editor >>"$log" 2>&1 ;;
    esac
    status=$?
    say "            $verb $id ($1)"
    # 1 is an honest refusal: the agent had moved on. 4: the owner was killed before it could answer; the message stays.
    case $status in
    0 | 1 | 4) ;;
    *) fault "$verb $id ended with status $status" ;;
    esac
}

# When all is settled and the kills are not enough yet: a second review of a published document, from its first version.
more_work() {
    if [ "$(in_work)" -gt 0 ] || [ -n "$(first_asking)" ]; then return; fi
    id=$(review status --json | sed -n 's/.*"id":"\([^"]*\)","state":"published".*/\1/p' | sed -n '$p')
    review fork "$id" 1 "again$turn" >>"$log" 2>&1 || fault "fork $id 1 ended with status $?"
    say "            fork $id 1 (nothing runs)"
}

killed() { # $1: exit status of a run, $2: how it was killed
    if [ "$1" -eq 137 ]; then
        kills=$((kills + 1))
        say "kill $(printf %2d $kills)     $(printf %-16s "$2") $(where)"
    elif [ "$1" -ne 0 ]; then
        fault "a run ended with status $1: $(tail -n 1 "$log")"
        [ "$1" -ne 3 ] || exit 1 # the store cannot be opened: nothing more to learn
    fi
}

say "Documents"
set --
: >"$work/later.txt"
later=0
for file in "$root"/*.md "$root"/LICENSE "$licences"/* "$root"/examples/*.c "$root"/examples/*.h "$root"/*.h; do
    if [ ! -f "$file" ] || [ -L "$file" ] || [ ! -s "$file" ]; then continue; fi
    if [ $# -lt $DOCUMENTS ]; then
        set -- "$@" "$file"
    elif [ $later -lt $TIME_KILLS ]; then
        later=$((later + 1))
        printf '%s\n' "$file" >>"$work/later.txt"
    fi
done
if [ $# -lt 3 ]; then
    say "there are only $# documents to review; this shows nothing"
    exit 1
fi
last=
for file in "$@"; do last=$file; done
review start "$@" >"$work/started.txt" 2>&1 || fault "start failed: $(tail -n 1 "$work/started.txt")"
say "            $(tail -n 1 "$work/started.txt")"
review start "$@" >"$work/again.txt" 2>&1 || fault "starting again failed"
grep -q '^started' "$work/again.txt" && fault "starting again began something"

say "Killed at a host call, decided while nothing runs"
turn=0
while [ $kills -lt $KILLS ] && [ $turn -lt 200 ]; do
    turn=$((turn + 1))
    if [ "$(in_work)" -gt 3 ]; then
        roll 60
        at=$((rolled + 10))
    else
        roll 22
        at=$((rolled + 2))
        more_work
    fi
    review run --witness "$witness" --kill-at $at --seed $turn >>"$log" 2>&1
    status=$?
    killed $status "at host call $at"
    # It has ended by itself: whatever is left waits for a person.
    if [ $status -eq 0 ] && [ $kills -lt $KILLS ]; then decide "nothing runs"; fi
done
[ $kills -ge $KILLS ] || fault "only $kills kills: the work was done too early"

say "Killed by time, decided while the owner runs"
by_time=0
while [ $by_time -lt $TIME_KILLS ]; do
    by_time=$((by_time + 1))
    own
    sleep 0.2 2>/dev/null || sleep 1
    file=$(sed -n "${by_time}p" "$work/later.txt")
    if [ -n "$file" ]; then
        say "            start ${file##*/} (the owner runs)"
        review start "$file" >>"$log" 2>&1 || fault "start $file ended with status $?"
    fi
    decide "the owner runs"
    if [ $by_time -eq 2 ]; then # one is killed while it is being asked
        (decide "the owner is being killed") &
        helper=$!
    fi
    roll 5
    sleep "0.0$rolled" 2>/dev/null || :
    kill -9 "$owner" 2>/dev/null
    wait "$owner" 2>/dev/null
    killed $? "by time"
    if [ $by_time -eq 2 ]; then wait "$helper"; fi
done

say "Deadlines: a question that nobody answers is asked a second time, then the answer is no"
mkdir -p "$work/late"
cp "$last" "$work/late/nobody-answers.txt"
review start "$work/late/nobody-answers.txt" --deadline 1 --threshold 0 >>"$log" 2>&1 ||
    fault "starting the late one failed"
own
tries=0
while [ $tries -lt 1200 ]; do
    tries=$((tries + 1))
    state=$(review status nobody --json 2>/dev/null | sed -n 's/.*"state":"\([^"]*\)".*/\1/p')
    [ "$state" = rejected ] && break
    if [ $((tries % 8)) -eq 4 ]; then decide "the owner runs"; fi
    sleep 0.1 2>/dev/null || sleep 1
done
[ "$state" = rejected ] || fault "the late one is $state, not rejected"
review history nobody |
    sed -n 's/^\( *[0-9]*\)  .* \(publication[^ ]*\) .* \([a-z]* -> [a-z]*\).*/           \1  \2: \3/p'
kill -TERM "$owner"
wait "$owner" || fault "a run that was asked to end ended with status $?"

say "Finishing"
turn=0
while [ $turn -lt 60 ]; do
    turn=$((turn + 1))
    review run --witness "$witness" >>"$log" 2>&1 || fault "a run failed: $(tail -n 1 "$log")"
    [ -n "$(first_asking)" ] || break
    while [ -n "$(first_asking)" ]; do decide "nothing runs"; done
done
review run --witness "$witness" >>"$log" 2>&1 || fault "the last run failed, see $log"
say "            $(where)"
published=$(review status --json | grep '"state":"published"' |
    sed -n 's/.*"id":"\([^"]*\)".*"risk":[6-9][0-9].*/\1/p' | sed -n 1p)
if [ -n "$published" ]; then
    if review rollback "$published" 2 >"$work/rollback.txt" 2>&1; then
        fault "a rollback across a publication was not refused"
    else
        say "            rollback across a publication: $(sed 's/.*refused: //' "$work/rollback.txt")"
    fi
else
    fault "nothing was published"
fi

report=$out/$published.md
if [ -f "$report" ]; then
    say "One of the reports, $report"
    sed -n '1,18p' "$report" | cut -c 1-110 | sed 's/^/    | /'
fi

say "Proof, from the journal and the folder of reports"
review audit --witness "$witness" || fault "the audit found faults"
if [ -x "$programs/pagentctl" ]; then
    "$programs/pagentctl" "$store" verify >"$work/verify.txt" 2>&1
    case $? in
    0) say "  pagentctl   verify: clean" ;;
    *) fault "pagentctl verify: $(tail -n 1 "$work/verify.txt")" ;;
    esac
fi
say "  kills       $kills (seed $seed: the same seed picks the same calls)"
[ $kills -ge 20 ] || fault "fewer than 20 kills"
if [ $wrong -ne 0 ]; then
    say "demo: $wrong faults; everything is in $work"
    exit 1
fi
say "demo: all is well; the reports are in $out"
