#!/usr/bin/env bash
# What perfring record and perf record lose of a storm of tracepoints on all CPUs, with the same buffers, in turns:
# losses.sh [TURNS [PAGES...]]
# Needs root, perf, and tracefs.
set -euo pipefail
cd "$(dirname "$0")/.."
turns=${1:-5}
pages=("${@:2}")
[ ${#pages[@]} -gt 0 ] || pages=(16 128)
cargo build --quiet --release --features cli --bin perfring
target=${CARGO_TARGET_DIR:-target}
perfring=$(realpath "$target/release/perfring")
work=$(mktemp -d "$target/losses.XXXXXX")
mounted=
cleanup() {
    rm -rf "$work"
    [ -z "$mounted" ] || umount /sys/kernel/tracing
}
trap cleanup EXIT
if [ ! -d /sys/kernel/tracing/events ]; then
    mount -t tracefs nodev /sys/kernel/tracing
    mounted=1
fi

# Samples, and the sum of what the LOST records say.
count() {
    "$perfring" dump --unordered --json "$1" |
        awk '/^\{"type":"SAMPLE"/ { samples++ }
             /^\{"type":"LOST"/ { match($0, /"lost":[0-9]+/); lost += substr($0, RSTART + 7, RLENGTH - 7) }
             END { printf "%d %d", samples, lost }'
}

storm=(perf bench syscall basic --loop 1000000)
echo "| pages | turn | recorder | samples | lost | of all |"
echo "|---|---|---|---|---|---|"
for size in "${pages[@]}"; do
    for turn in $(seq "$turns"); do
        for recorder in perfring perf; do
            options=(-a -m "$size" -e raw_syscalls:sys_enter -c 1 -o "$work/data")
            if [ "$recorder" = perfring ]; then
                "$perfring" record -q "${options[@]}" --no-buildid -- "${storm[@]}" >/dev/null
            else
                perf record -q -N -R "${options[@]}" -- "${storm[@]}" >/dev/null 2>&1
            fi
            read -r samples lost <<<"$(count "$work/data")"
            echo "| $size | $turn | $recorder | $samples | $lost | $(awk "BEGIN { printf \"%.3f %%\", 100 * $lost / ($samples + $lost) }") |"
            rm -f "$work/data" "$work/data.old"
        done
    done
done
