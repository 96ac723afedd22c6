# The root of the Ceph daemons and, with our programs on top, of Cairn itself:
# what the build root has, without compilers, headers and manuals.
SUITE=forky
PACKAGES=(
  ceph-mon ceph-mgr ceph-osd ceph-common ceph-base
  librados2 librbd1 libcephfs2
  e2fsprogs xfsprogs btrfs-progs util-linux mount procps kmod
)
SLIM=1
