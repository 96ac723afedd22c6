# The root of older Ceph daemons: what clusters are upgraded from in the tests.
SUITE=trixie
PACKAGES=(
  ceph-mon ceph-mgr ceph-osd ceph-common ceph-base
  e2fsprogs util-linux mount procps kmod
)
SLIM=1
