#!/usr/bin/env bash
# Fuzzes each target, or the ones named, for so many seconds, two at a time.
#
#   proxy/fuzz/run.sh SECONDS [TARGET...]
#   proxy/fuzz/run.sh --build
#
# The second form only builds what the first one needs.
# Works with stable Rust: coverage comes from LLVM's own pass, and libFuzzer is
# built by the libfuzzer-sys crate, which needs a C++ compiler. New inputs go
# into the target folder; the small corpora in corpus/ are only read.
set -euo pipefail
seconds=${1:?usage: run.sh SECONDS [TARGET...] | --build}
shift
here=$(cd "$(dirname "$0")" && pwd)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(request_head routes scrubber usage)
command -v c++ >/dev/null || { echo "error: no C++ compiler; hint: apt install g++" >&2; exit 1; }

host=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
passes=(-Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    passes+=("-Cllvm-args=-sanitizer-coverage-$option")
done
# The same versions as the workspace; Cargo adds what only fuzzing needs.
cp "$here/../../Cargo.lock" "$here/Cargo.lock"
# Naming the target keeps the flags away from build scripts.
RUSTFLAGS="${passes[*]} --cfg fuzzing" cargo build --quiet --release \
    --manifest-path "$here/Cargo.toml" --target "$host" --target-dir "$out"
[ "$seconds" != --build ] || exit 0

fuzz() {
    local target=$1
    mkdir -p "$out/corpus/$target" "$out/artifacts/$target"
    "$out/$host/release/$target" "$out/corpus/$target" "$here/corpus/$target" \
        -artifact_prefix="$out/artifacts/$target/" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=1024 -max_len=8192 -print_final_stats=1 -verbosity=0
}

failed=0
while [ ${#targets[@]} -gt 0 ]; do
    pair=("${targets[@]:0:2}")
    targets=("${targets[@]:2}")
    echo "fuzzing ${pair[*]} for $seconds s"
    running=()
    for target in "${pair[@]}"; do
        fuzz "$target" >"$out/$target.log" 2>&1 &
        running+=($!)
    done
    for index in "${!pair[@]}"; do
        wait "${running[$index]}" || failed=1
        sed "s/^/${pair[$index]}: /" "$out/${pair[$index]}.log"
    done
done
exit "$failed"
