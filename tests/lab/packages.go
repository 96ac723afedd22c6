package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// packages are the Debian packages that the lab needs, each with a program of
// it whose presence tells.
var packages = []struct{ name, program string }{
	{"containerd", "containerd"},
	{"runc", "runc"},
	{"containernetworking-plugins", "/usr/lib/cni/bridge"},
	{"mmdebstrap", "mmdebstrap"},
	{"debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"},
	{"iproute2", "ip"},
	{"iptables", "iptables"},
	{"nftables", "nft"},
	{"conntrack", "conntrack"},
	{"ethtool", "ethtool"},
	{"socat", "socat"},
	{"ipset", "ipset"},
	{"procps", "sysctl"},
	{"util-linux", "nsenter"},
	{"mount", "losetup"},
	{"e2fsprogs", "chattr"},
	{"xfsprogs", "mkfs.xfs"},
	{"fio", "fio"},
	{"fdisk", "sfdisk"},
}

func missingPackages() []string {
	var missing []string
	for _, pkg := range packages {
		_, err := exec.LookPath(pkg.program)
		if strings.HasPrefix(pkg.program, "/") {
			_, err = os.Stat(pkg.program)
		}
		if err != nil {
			missing = append(missing, pkg.name)
		}
	}
	return missing
}

func checkMachine() error {
	if missing := missingPackages(); len(missing) > 0 {
		return fmt.Errorf("packages are missing: %s: run: lab install-deps", strings.Join(missing, " "))
	}
	if _, err := os.Stat("/sys/fs/cgroup/freezer"); err != nil {
		return fmt.Errorf("the lab needs the freezer of cgroup version 1: %w", err)
	}
	return nil
}

// InstallPackages installs what is missing, with the machine's own apt.
func InstallPackages(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("installing packages needs root")
	}
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	steps := newProgress()
	apt := func(args ...string) func() error {
		return func() error {
			// env: apt asks no questions, and another apt may be at work.
			all := append([]string{"DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"}, args...)
			_, err := run(ctx, "env", all...)
			return err
		}
	}
	if err := steps.run("update package lists", apt("update")); err != nil {
		return err
	}
	return steps.run("install "+strings.Join(missing, " "), apt(append([]string{"install", "-y", "--no-install-recommends"}, missing...)...))
}
