# Shared by the scripts of this folder; sourced, not run.
IMAGES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(dirname "$IMAGES")
CACHE=${CAIRN_CACHE:-/var/cache/cairn}
mkdir -p "$CACHE"/{tmp,roots,bin,lock,images}

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# The roots come from where the machine itself gets its packages.
mirror() {
  local uri
  uri=$(awk '$1 == "URIs:" && $2 !~ /security/ { print $2; exit }' /etc/apt/sources.list.d/debian.sources 2>/dev/null)
  [ -n "$uri" ] || uri=$(awk '$1 == "deb" && $0 !~ /security/ { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' /etc/apt/sources.list 2>/dev/null)
  [ -n "$uri" ] || die "found no package source in /etc/apt/sources.list.d/debian.sources or /etc/apt/sources.list"
  echo "$uri"
}
