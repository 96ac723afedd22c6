package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// create makes the OSD on the device, which is locked and was found to be free.
// ceph-osd opens it exclusively, and by its kernel name: that stays the name of
// what was looked at while it is open, whatever becomes of the stable name.
func (p *Preparer) create(ctx context.Context, request Request, d, db *device) error {
	dbName := ""
	if db != nil {
		dbName = db.Name()
	}
	if err := request.layOut(d.Name(), dbName); err != nil {
		return err
	}
	for _, name := range progress {
		if err := os.Remove(request.file(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget an earlier attempt: %w", err)
		}
	}
	if err := p.run(ctx, "ceph-osd", mkfsArgs(request)...); err != nil {
		return fmt.Errorf("make osd.%d on %s: %w", request.ID, request.Device, err)
	}
	found, err := d.label()
	if err != nil {
		return fmt.Errorf("verify osd.%d on %s: %w", request.ID, request.Device, err)
	}
	if found == nil || !found.complete() || found.uuid != request.UUID {
		return fmt.Errorf("verify osd.%d on %s: ceph-osd --mkfs ended well, but the device does not bear the OSD's label", request.ID, request.Device)
	}
	return request.verifyDB(db)
}

// progress are the files by which mkfs knows how far it came. What counts is
// the device, so they do not survive an interruption.
var progress = []string{"mkfs_done", "ready", "fsid", "ceph_fsid", "whoami", "type", "bluefs", "kv_backend"}

// newOSDConf has, for an OSD that is being made and cannot ask the mons yet, the
// options that they hand to those that run. It is in the ConfigMap with ceph.conf.
const newOSDConf = "/etc/ceph/new-osd.conf"

func mkfsArgs(request Request) []string {
	args := []string{
		"--mkfs", "-i", strconv.Itoa(int(request.ID)),
		"--osd-objectstore", "bluestore", "--osd-uuid", request.UUID, "--fsid", request.FSID,
		"--osd-data", request.DataDir, "--keyring", request.file("keyring"),
		"--no-mon-config", "--admin-socket=", "--log-file=", "--log-to-stderr=true",
	}
	if _, err := os.Stat(newOSDConf); err == nil {
		args = append(args, "--conf", newOSDConf)
	}
	return args
}

// activate makes the OSD's directory from the device.
func (p *Preparer) activate(ctx context.Context, request Request, d, db *device) error {
	block := request.Device
	if request.block != "" {
		block = request.block
	}
	if err := request.layOut(block, request.DB); err != nil {
		return err
	}
	if err := p.run(ctx, "ceph-bluestore-tool", "prime-osd-dir", "--dev", d.Name(), "--path", request.DataDir); err != nil {
		return fmt.Errorf("activate osd.%d on %s: %w", request.ID, request.Device, err)
	}
	for name, want := range map[string]string{"fsid": request.UUID, "whoami": strconv.Itoa(int(request.ID)), "ceph_fsid": request.FSID} {
		have, err := os.ReadFile(request.file(name))
		if err != nil {
			return fmt.Errorf("verify osd.%d: %w", request.ID, err)
		}
		if text := strings.TrimSpace(string(have)); text != want {
			return fmt.Errorf("verify osd.%d: %s is %q, not %q", request.ID, request.file(name), printable(text, maxText), want)
		}
	}
	return p.grow(ctx, request, d, db)
}

// grow has BlueStore use all of devices that are larger than they were. Interrupted, it is
// repeated: the size in the label is the last that changes.
func (p *Preparer) grow(ctx context.Context, request Request, d, db *device) error {
	grown, err := d.grown()
	if err != nil {
		return err
	}
	dbGrown, err := db.grown()
	if err != nil || !grown && !dbGrown {
		return err
	}
	if err := p.run(ctx, "ceph-bluestore-tool", "bluefs-bdev-expand", "--path", request.DataDir); err != nil {
		return fmt.Errorf("grow osd.%d to the %s of %s: %w", request.ID, Size(d.size), request.Device, err)
	}
	return nil
}

func (r Request) file(name string) string { return filepath.Join(r.DataDir, name) }

// layOut makes what the OSD's directory has besides what Ceph writes there:
// the key, the device class and the links to the devices; db is empty for none.
func (r Request) layOut(device, db string) error {
	if err := os.MkdirAll(r.DataDir, 0o750); err != nil {
		return fmt.Errorf("make the OSD's directory: %w", err)
	}
	key, err := os.ReadFile(r.Keyring)
	if err != nil {
		return fmt.Errorf("read the OSD's keyring: %w", err)
	}
	if err := writeFile(r.file("keyring"), key); err != nil {
		return err
	}
	if r.DeviceClass != "" {
		if err := writeFile(r.file("crush_device_class"), []byte(r.DeviceClass+"\n")); err != nil {
			return err
		}
	}
	if db != "" {
		if err := linkTo(db, r.file("block.db")); err != nil {
			return err
		}
	}
	return linkTo(device, r.file("block"))
}

// writeFile replaces a file as a whole.
func writeFile(path string, content []byte) error {
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, content) {
		return nil
	}
	next := path + ".next"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// linkTo makes a symbolic link, in place of another one if need be.
func linkTo(target, path string) error {
	have, err := os.Readlink(path)
	if err == nil && have == target {
		return nil
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("link %s: %w", path, err)
	}
	if err := os.Symlink(target, path); err != nil {
		return fmt.Errorf("link %s: %w", path, err)
	}
	return nil
}

// run runs one of Ceph's local programs; the end of what it says is in the error.
func run(ctx context.Context, name string, args ...string) error {
	return feed(ctx, nil, name, args...)
}

// feeder runs a program with an input.
type feeder = func(ctx context.Context, input []byte, name string, args ...string) error

// feed runs a program with an input, which is secret.
func feed(ctx context.Context, input []byte, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	if input != nil {
		cmd.Stdin = bytes.NewReader(input)
	}
	// There is no udev in a pod to wait for: device mapper makes its nodes itself.
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	cmd.Dir = "/" // Debian's ceph-osd finds its classes relative to it
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, lastWords(string(out)))
	}
	return nil
}

// lastWords are the last lines of a program's output, on one line.
func lastWords(out string) string {
	const lines, limit = 5, 1000
	all := strings.Split(strings.TrimSpace(out), "\n")
	all = all[max(0, len(all)-lines):]
	for i := range all {
		all[i] = printable(all[i], limit/lines)
	}
	return strings.Join(all, " | ")
}
