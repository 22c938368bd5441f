#!/bin/sh
# Instructions a record of begin_forward and of begin_forward_in_page, by callgrind. Fails when in page costs more
# than 1.10 times as much, for the producer alone or with the consumer.
set -eu
cd "$(dirname "$0")/.."
limit=1.10
few=20480
many=122880

command -v valgrind >/dev/null || { echo "instructions.sh: valgrind is not installed" >&2; exit 2; }
binary=$(benches/build-bench producer_path)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# $1: the way, $2: records, the rest: options of callgrind. Prints the instructions that were collected.
count() {
    way=$1
    records=$2
    shift 2
    if ! valgrind --tool=callgrind --callgrind-out-file="$out/callgrind" "$@" "$binary" "$way" "$records" 2>"$out/log"; then
        cat "$out/log" >&2
        exit 2
    fi
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$out/log"
}

# The difference of two runs is free of what is done once. Instructions a record, in thousandths.
a_record() {
    way=$1
    shift
    less=$(count "$way" $few "$@")
    more=$(count "$way" $many "$@")
    echo $(((more - less) * 1000 / (many - few)))
}

echo "| instructions a record of 48 bytes | begin_forward | begin_forward_in_page | ratio |"
echo "|---|---|---|---|"
failed=0
for part in producer both; do
    case $part in
    producer)
        label="producer"
        forward=$(a_record forward --toggle-collect='*produce_forward*')
        in_page=$(a_record in-page --toggle-collect='*produce_in_page*')
        ;;
    both)
        label="producer and consumer"
        forward=$(a_record forward)
        in_page=$(a_record in-page)
        ;;
    esac
    if [ "$forward" -le 0 ] || [ "$in_page" -le 0 ]; then
        echo "instructions.sh: nothing was counted; were the functions inlined?" >&2
        exit 2
    fi
    awk -v label="$label" -v f="$forward" -v p="$in_page" -v limit=$limit 'BEGIN {
        printf "| %s | %.1f | %.1f | **%.3f** |\n", label, f / 1000, p / 1000, p / f
        exit p / f > limit
    }' || failed=1
done
if [ $failed = 1 ]; then
    echo "instructions.sh: in page costs more than $limit times as much" >&2
fi
exit $failed
