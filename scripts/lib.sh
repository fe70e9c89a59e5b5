# shellcheck shell=bash
# What the scripts of this folder share; they source it. Each part below has its own file in lib/.

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LIBRARY=$REPOSITORY/scripts/lib
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/mangrove
# A shell of a plain `su` has no sbin, and one without a login no cargo.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${HOME:-/root}/.cargo/bin

# shellcheck source=scripts/lib/say.sh
source "$LIBRARY/say.sh"
# shellcheck source=scripts/lib/packages.sh
source "$LIBRARY/packages.sh"
# shellcheck source=scripts/lib/process.sh
source "$LIBRARY/process.sh"
# shellcheck source=scripts/lib/mongodb.sh
source "$LIBRARY/mongodb.sh"
# shellcheck source=scripts/lib/engine.sh
source "$LIBRARY/engine.sh"
# shellcheck source=scripts/lib/build.sh
source "$LIBRARY/build.sh"
# shellcheck source=scripts/lib/stack.sh
source "$LIBRARY/stack.sh"
