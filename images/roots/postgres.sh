# PostgreSQL for the demo: the server, its client and pgbench.
SUITE=bookworm
PACKAGES=(postgresql postgresql-client)
SLIM=1

# A fixed uid, so that volumes keep their owner from one image to the next,
# and no cluster made at install time: the data lives on a volume.
before_packages() {
  echo 'postgres:x:999:' >>"$1/etc/group"
  echo 'postgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/bash' >>"$1/etc/passwd"
  echo 'postgres:*:20000:0:99999:7:::' >>"$1/etc/shadow"
  mkdir -p "$1/etc/postgresql-common" "$1/var/lib/postgresql"
  echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
}
