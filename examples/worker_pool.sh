#!/bin/sh
# Three workers on one queue: each takes a line, works on it, and takes the next, until none is left.
#
#     export SLOTHSTATE_DB=files.db
#     slothstate push files --string --lines list.txt
#     sh examples/worker_pool.sh files gzip -9
#
# The command gets the item as its last argument. If it fails, or is killed, the item is back in the queue for whoever
# asks next; what failed three times is put aside in the list QUEUE:dead.
set -u
if [ $# -lt 2 ]; then
    echo "usage: worker_pool.sh QUEUE COMMAND [ARGUMENT...]" >&2
    exit 2
fi
queue=$1
shift
if ! command -v "$1" >/dev/null; then
    echo "there is no command '$1'" >&2
    exit 127
fi

workers=
trap 'kill $workers; exit 130' INT TERM
for _ in 1 2 3; do
    slothstate claim "$queue" --each --max-attempts 3 -- sh -c 'exec "$@" "$SLOTHSTATE_ITEM"' work "$@" &
    workers="$workers $!"
done
result=0
for worker in $workers; do
    wait "$worker"
    code=$?
    # 1: the command failed for some item, which was tried again.
    [ "$code" -le 1 ] || result=$code
done
[ "$result" -eq 0 ] || exit "$result"
echo "$(slothstate length "$queue:dead") given up"
