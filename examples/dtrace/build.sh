#!/usr/bin/env bash
# Compiles the programs here, as the objects beside them were, with Debian's clang 14.
set -euo pipefail
cd "$(dirname "$0")"
clang=${CLANG:-clang}
strip=${LLVM_STRIP:-llvm-strip-14}

build() {
    local source=$1 object=$2
    shift 2
    "$clang" -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -fdebug-compilation-dir=. -I../../include "$@" -c "$source.bpf.c" -o "$object.bpf.o"
    "$strip" --strip-debug "$object.bpf.o"
}

build sample sample
build sample sample_hash -DECBS=1
for name in syscalls writes latency; do
    build "$name" "$name"
done
