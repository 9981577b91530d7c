# shellcheck shell=bash
# The variables are used by the scripts that source this file.
# shellcheck disable=SC2034
#
# What the scripts share. Sourced, never run; callers have `set -euo pipefail`.

# The oldest toolchain that Package.swift accepts.
swift_version_min=6.2

repository_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# What `swift format` looks at.
swift_sources=(Sources Tests Benchmarks/Sources Benchmarks/Package.swift Fuzzing/Sources/Fuzz Fuzzing/Package.swift Package.swift)

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints the comment block at the top of the calling script, without its first line and the comment signs.
usage() { sed -n '2,/^[^#]/{/^#/!q; s/^# \{0,1\}//p}' "$0"; }

# Prints the version of the Swift toolchain, or nothing.
swift_version() {
    { swift --version 2>/dev/null || true; } | sed -n 's/.*Swift version \([0-9][0-9.]*\).*/\1/p' | head -n 1
}

# version_at_least 6.3.1 6.2: true when the first version is the second or later.
version_at_least() {
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]
}
