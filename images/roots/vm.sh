# An emulator and a stock kernel: tests/krbd boots the kernel that this machine
# does not run.
SUITE=bookworm
PACKAGES=(qemu-system-x86 linux-image-amd64)
SLIM=1

# No initramfs is made here: the tests make their own.
before_packages() {
  echo force-confold >"$1/etc/dpkg/dpkg.cfg.d/cairn"
  mkdir -p "$1/etc/initramfs-tools"
  echo 'update_initramfs=no' >"$1/etc/initramfs-tools/update-initramfs.conf"
}
