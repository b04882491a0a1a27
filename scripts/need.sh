# Sourced by the tiers. Ends the tier, loudly, when a program it needs is missing.
# Usage: need PROGRAM...
need() {
  local program
  for program in "$@"; do
    if ! command -v "$program" >/dev/null; then
      echo "THIS TIER CANNOT RUN: \`$program\` is missing. \`make test-deps\` installs it." >&2
      exit 1
    fi
  done
}
