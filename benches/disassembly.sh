#!/bin/sh
# Reads the machine code of the single producer's path: no locked instruction, no xchg with memory, no division. Looked
# at are produce_in_page, produce_forward and whatever of this crate they call. Ringing the bell, which happens when a
# watermark is crossed, is not on the path.
set -eu
cd "$(dirname "$0")/.."

if [ "$(uname -m)" != x86_64 ]; then
    echo "SKIPPED: disassembly.sh: it knows x86-64 only"
    exit 0
fi
command -v objdump >/dev/null || { echo "disassembly.sh: objdump is not installed" >&2; exit 2; }
binary=$(benches/build-bench producer_path)

# The relocations come first: rustc calls other crates through the global offset table.
{
    objdump --dynamic-reloc "$binary"
    objdump --disassemble --demangle --no-show-raw-insn "$binary"
} | awk '
    function add_call(from, to) {
        if (to != from) calls[from] = calls[from] to "\n"
    }
    $2 == "R_X86_64_RELATIVE" {
        slot = $1
        target = $3
        sub(/^0+/, "", slot)
        sub(/^\*ABS\*\+0x0*/, "", target)
        slots[slot] = target
        next
    }
    $2 ~ /^R_X86_64_(GLOB_DAT|JUMP_SLOT)$/ {
        slot = $1
        sub(/^0+/, "", slot)
        imports[slot] = $3
        next
    }
    /^[0-9a-f]+ <.*>:$/ {
        address = $1
        sub(/^0+/, "", address)
        name = $0
        sub(/^[0-9a-f]+ </, "", name)
        sub(/>:$/, "", name)
        name_at[address] = name
        if (name ~ /producer_path::produce_/) todo[++n] = name
        next
    }
    name != "" && /^ / {
        code[name] = code[name] $0 "\n"
        if ($0 ~ /(call|jmp) +\*.*# [0-9a-f]+ </) {
            slot = $0
            sub(/.*# /, "", slot)
            sub(/ .*/, "", slot)
            add_call(name, "*" slot)
        } else if ($0 ~ /call +\*/) {
            add_call(name, "(indirect)")
        } else if ($0 ~ /(call|jmp|j[a-z]+) +[0-9a-f]+ <.*>$/) {
            callee = $0
            sub(/^[^<]*</, "", callee)
            sub(/>$/, "", callee)
            sub(/\+0x[0-9a-f]+$/, "", callee)
            add_call(name, callee)
        }
    }
    END {
        if (n < 2) {
            print "disassembly.sh: the functions are not in the binary; were they inlined?"
            exit 2
        }
        for (i = 1; i <= n; i++) seen[todo[i]] = 1
        for (i = 1; i <= n; i++) {
            name = todo[i]
            count = split(code[name], lines, "\n") - 1
            for (l = 1; l <= count; l++) {
                line = lines[l]
                sub(/^ *[0-9a-f]+:[ \t]*/, "", line)
                bad = ""
                if (line ~ /^lock( |$)/ || line ~ /^xchg.*\(/) bad = "locked"
                if (line ~ /^i?div[bwlq]? /) bad = "division"
                if (bad != "") {
                    printf "%s: %s: %s\n", name, bad, line
                    failed = 1
                }
            }
            printf "looked at %s: %d instructions\n", name, count
            m = split(calls[name], callees, "\n") - 1
            for (c = 1; c <= m; c++) {
                callee = callees[c]
                if (callee ~ /^\*/) {
                    slot = substr(callee, 2)
                    if (slot in imports) callee = imports[slot]
                    else if (slot in slots) callee = name_at[slots[slot]]
                }
                if (callee in seen) continue
                seen[callee] = 1
                if (callee ~ /perfring::ring::/ && callee !~ /wakeup|core::fmt|panic/) todo[++n] = callee
                else printf "not looked at: %s\n", callee
            }
        }
        exit failed
    }'
