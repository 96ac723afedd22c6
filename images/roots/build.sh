# The root in which everything that touches librados is compiled and tested.
SUITE=forky
PACKAGES=(
  librados-dev librbd-dev libcephfs-dev gcc libc6-dev pkg-config make git
  ceph-mon ceph-mgr ceph-osd ceph-common ceph-base
  fio e2fsprogs xfsprogs util-linux mount procps ca-certificates systemd
)
