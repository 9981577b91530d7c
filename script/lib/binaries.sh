# shellcheck shell=bash
#
# The programs that script/demo and script/bench run. Sourced after common.sh, which sets repository_root; callers have
# `set -euo pipefail`.
# shellcheck disable=SC2154

# build_configuration: prints release or debug.
build_configuration() {
    local configuration=${HOTKEY_BUILD:-release}
    case $configuration in
        release | debug) say "$configuration" ;;
        *)
            say "${0##*/}: HOTKEY_BUILD is '$configuration'; expected release or debug" >&2
            exit 2
            ;;
    esac
}

# What a release is built with, beside -c release: the runtime inside the program, whose calls from there go without a table of
# addresses, and no checks at run time that no variable is used twice at once. The debug build has these checks, and all tests run
# with them; of a request at pipeline 1 they are a sixth of the instructions.
release_flags=(--static-swift-stdlib -Xswiftc -enforce-exclusivity=unchecked)

# build CONFIGURATION [OPTION of swift build]...
build() {
    local configuration=$1 flags=()
    shift
    if [[ $configuration == release ]]; then flags=("${release_flags[@]}"); fi
    swift build -c "$configuration" "${flags[@]}" "$@"
}

# prepare_binaries: installs what is missing, builds hkagent and hkctl, and sets `binaries` to their directory.
#
# HOTKEY_BIN=DIR takes them from there and builds nothing; HOTKEY_BUILD=debug builds them unoptimised. What is printed
# on the way goes to standard error: standard output is the caller's.
prepare_binaries() {
    local configuration product
    configuration=$(build_configuration)
    "$repository_root/script/bootstrap" >&2
    binaries=${HOTKEY_BIN:-}
    if [[ -z $binaries ]]; then
        for product in hkagent hkctl; do
            say "${0##*/}: building $product ($configuration); the first time takes minutes" >&2
            build "$configuration" --package-path "$repository_root" --product "$product" >&2
        done
        binaries=$(build "$configuration" --package-path "$repository_root" --show-bin-path)
    fi
    for product in hkagent hkctl; do
        [[ -x $binaries/$product ]] || fail "there is no program $binaries/$product"
    done
}

# prepare_benchmarks: the same for the drivers in Benchmarks/, which are built each time; HOTKEY_BIN does not concern them.
prepare_benchmarks() {
    local configuration
    configuration=$(build_configuration)
    "$repository_root/script/bootstrap" >&2
    say "${0##*/}: building the drivers in Benchmarks/ ($configuration); the first time takes minutes" >&2
    build "$configuration" --package-path "$repository_root/Benchmarks" >&2
    binaries=$(build "$configuration" --package-path "$repository_root/Benchmarks" --show-bin-path)
}
