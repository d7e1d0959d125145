#!/bin/sh
# Three workers on one queue: each takes a line, works on it, and takes the next, until none is left.
#
#     slothstate push files --lines list.txt
#     SLOTHSTATE_DB=files.db sh examples/worker_pool.sh files gzip -9
#
# The command gets the item as its last argument. If it fails, or is killed, the item is back in the queue for whoever
# asks next; what failed three times is put aside in the list QUEUE:dead.
set -u
queue=$1
shift

work() {
    while :; do
        slothstate claim "$queue" --max-attempts 3 -E 200 -- sh -c '"$@" "$SLOTHSTATE_ITEM"' work "$@"
        case $? in
        200) return 0 ;; # there is none
        3 | 126 | 127) return 1 ;; # no store, no command: the next one will not do better
        esac
    done
}

for _ in 1 2 3; do
    work "$@" 2>/dev/null &
done
wait
echo "$(slothstate length "$queue:dead") given up"
