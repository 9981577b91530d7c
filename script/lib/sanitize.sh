# shellcheck shell=bash
#
# The tests of the bridge to C under the sanitizers. Sourced by script/test.

# What a sanitizer exits with; a failed test exits with 1.
sanitizer_status=66
# The cycles of the soak, which `HOTKEY_SOAK` overrides: some two minutes each on two cores.
declare -A soak_cycles=([thread]=10000 [address]=10000)
# A symbol that only an instrumented binary has.
declare -A sanitizer_symbol=([thread]=__tsan_func_entry [address]=__asan_report_load8)
# ZooKeeperTests and all it needs: a quarter of the whole package.
sanitized_targets='"CZooKeeper", "HotKeyTestSupport", "ZooKeeper", "ZooKeeperTests"'

# make_sanitized_package DIRECTORY: the repository's package without the targets that are not looked at. `swift build` can
# leave targets out of what it compiles, but not out of the one binary of all tests.
make_sanitized_package() {
    mkdir -p "$1"
    ln -sfn "$repository_root/Sources" "$1/Sources"
    ln -sfn "$repository_root/Tests" "$1/Tests"
    if [[ -f Package.resolved ]]; then cp Package.resolved "$1"; fi
    {
        cat Package.swift
        printf 'let sanitized: Set = [%s]\n' "$sanitized_targets"
        printf 'package.targets.removeAll { !sanitized.contains($0.name) }\n'
        printf 'package.products = []\n'
    } >"$1/Package.swift"
}

# run_sanitized thread|address DIRECTORY [OPTION OF swift test]...: builds and runs in DIRECTORY. Sets `sanitized` to what
# passed. Fails on a failed test, on a sanitizer's report, and when the tests, the soak or the sanitizer did not take part.
run_sanitized() {
    local sanitizer=$1 directory=$2 log=$2/script-test.log cycles binary status=0 tests
    shift 2
    cycles=${HOTKEY_SOAK:-${soak_cycles[$sanitizer]}}
    make_sanitized_package "$directory/package"
    local build=(swift build --build-tests "--sanitize=$sanitizer" --package-path "$directory/package"
        --scratch-path "$directory")
    "${build[@]}"
    binary=$("${build[@]}" --show-bin-path)/hotkeyPackageTests.xctest
    grep -aq "${sanitizer_symbol[$sanitizer]}" "$binary" || fail "$binary is not instrumented"

    # malloc_context_size=2 is half of script/lib/lsan-suppressions.txt, which says why. Own settings come last and win.
    env HOTKEY_SOAK="$cycles" \
        TSAN_OPTIONS="exitcode=$sanitizer_status:${TSAN_OPTIONS:-}" \
        ASAN_OPTIONS="exitcode=$sanitizer_status:detect_leaks=1:malloc_context_size=2:${ASAN_OPTIONS:-}" \
        LSAN_OPTIONS="exitcode=$sanitizer_status:suppressions=$repository_root/script/lib/lsan-suppressions.txt:${LSAN_OPTIONS:-}" \
        "$binary" --testing-library swift-testing "${width[@]}" "$@" 2>&1 | tee "$log" || status=$?

    # A report may come without its exit status, for instance when something ends the process in its own way.
    if [[ $status -eq $sanitizer_status ]] || grep -Eq '(Thread|Address|Leak)Sanitizer[: ]' "$log"; then
        say "the $sanitizer sanitizer reported; see $log." \
            "ASAN_OPTIONS=malloc_context_size=30 shows whole stacks, but also lets the suppression match more." >&2
        exit 1
    fi
    [[ $status -eq 0 ]] || exit 1
    tests=$(tests_passed "$log")
    [[ -n $tests && $tests -gt 0 ]] || fail "no test ran under the $sanitizer sanitizer"
    sanitized="$tests tests under the $sanitizer sanitizer"
    if grep -q "^soak: $cycles cycles" "$log"; then
        sanitized+=" with $cycles cycles of the soak"
    elif [[ $# -eq 0 ]]; then
        fail "the soak did not run under the $sanitizer sanitizer"
    fi
}
