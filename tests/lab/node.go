package lab

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed init.sh
var initScript []byte

// Node is one node of the lab.
type Node struct {
	Name  string
	index int
}

func nodeAt(index int) *Node { return &Node{Name: nodeName(index), index: index} }

// Get finds a node by its name. What is asked of a node that the lab does not
// have fails with an error that says so.
func Get(name string) (*Node, error) { return find(name) }

// Nodes lists the lab's nodes.
func Nodes() ([]*Node, error) {
	options, err := loadOptions()
	if err != nil {
		return nil, err
	}
	var nodes []*Node
	for index := 1; index <= options.Nodes; index++ {
		nodes = append(nodes, nodeAt(index))
	}
	return nodes, nil
}

func find(name string) (*Node, error) {
	nodes, err := Nodes()
	if err != nil {
		return nil, err
	}
	for _, node := range nodes {
		if node.Name == name || strconv.Itoa(node.index) == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("no node %q: the lab has %s to %s", name, nodeName(1), nodeName(len(nodes)))
}

type bind struct{ source, target string }

// nodeBinds are a node's own directories and where it has them: the places that
// programs on a node expect, so that nothing in a node needs other paths.
func nodeBinds(name string) []bind {
	own := func(sub string) string { return filepath.Join(nodeDir(name), sub) }
	return []bind{
		{own("kubelet"), "/var/lib/kubelet"},
		{containerdDir(name), "/var/lib/containerd"},
		{own("cni"), "/var/lib/cni"},
		{own("net.d"), "/etc/cni/net.d"},
		{own("log"), "/var/log"},
		{own("cairn"), "/var/lib/cairn"},
	}
}

func mountPointsFile() string { return filepath.Join(Dir(), "mount-points") }

// makeMountPoints makes the directories that nodes mount over where the host has
// none, and notes them for down to remove.
func makeMountPoints() error {
	var made []string
	for _, bind := range nodeBinds(nodeName(1)) {
		for dir := bind.target; ; dir = filepath.Dir(dir) {
			if _, err := os.Stat(dir); err == nil {
				break
			}
			made = append(made, dir)
		}
		if err := os.MkdirAll(bind.target, 0o755); err != nil {
			return fmt.Errorf("make a mount point: %w", err)
		}
	}
	if len(made) == 0 {
		return nil
	}
	return os.WriteFile(mountPointsFile(), []byte(strings.Join(made, "\n")), 0o644)
}

func removeMountPoints() {
	data, err := os.ReadFile(mountPointsFile())
	if err != nil {
		return
	}
	for _, dir := range strings.Fields(string(data)) {
		_ = os.Remove(dir) // what somebody uses meanwhile stays
	}
}

// start boots the node. A fresh node forgets the containers of the lab before.
func (n *Node) start(ctx context.Context, fresh bool) error {
	options, err := loadOptions()
	if err != nil {
		return err
	}
	if err := n.unplug(ctx); err != nil {
		return err
	}
	if err := n.plugIn(ctx, options.Nodes); err != nil {
		return err
	}
	if err := makeCgroup(n.Name); err != nil {
		return err
	}
	if err := n.writeConfig(fresh); err != nil {
		return err
	}
	if err := daemon(n.Name, n.Name, "nsenter", "--net=/run/netns/"+netnsName(n.index), "--",
		"unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--propagation", "private",
		"/bin/bash", filepath.Join(nodeDir(n.Name), "init.sh")); err != nil {
		return err
	}
	if err := waitFor(ctx, n.Name+"'s containerd", 60*time.Second, func() error {
		if !alive(n.Name) {
			return permanent{fmt.Errorf("its init ended: see %s", filepath.Join(logDir(), n.Name+".log"))}
		}
		_, err := n.booted()
		return err
	}); err != nil {
		return err
	}
	return n.linkDisks(ctx)
}

// Start boots a node that was killed; it comes back with its disks and its state.
func (n *Node) Start(ctx context.Context) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	if alive(n.Name) {
		return nil
	}
	return n.start(ctx, false)
}

// Kill is a power cut: every process of the node ends at once and the devices
// that its programs had made are gone. Its disks stay as they are.
func (n *Node) Kill(ctx context.Context) error {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	return n.kill(ctx)
}

func (n *Node) kill(ctx context.Context) error {
	loops, err := findNodeLoops(n.Name)
	if err != nil {
		return err
	}
	if err := killAll(ctx, n.Name); err != nil {
		return err
	}
	if err := detachLoops(ctx, loops.afterEnd()); err != nil {
		return err
	}
	_ = os.Remove(pidFile(n.Name))
	// A container's stale cgroup would hold up the next start for seconds.
	return errors.Join(removeCgroups(ctx, n.Name), n.unplug(ctx))
}

// Freeze stops every process of the node, as a hang of the machine would; its
// address still answers to nobody but the kernel.
func (n *Node) Freeze(context.Context) error { return setFrozen(freezerDir(n.Name), true) }

// Thaw undoes Freeze.
func (n *Node) Thaw(context.Context) error { return setFrozen(freezerDir(n.Name), false) }

// initPid is the node's process 1, as the host numbers it.
func (n *Node) initPid() (int, bool) {
	parent, ok := livePid(n.Name)
	if !ok {
		return 0, false
	}
	pids, err := readPids(filepath.Join(freezerDir(n.Name), "cgroup.procs"))
	if err != nil {
		return 0, false
	}
	for _, pid := range pids {
		if parentOf(pid) == parent {
			return pid, true
		}
	}
	return 0, false
}

func parentOf(pid int) int {
	fields := statFields(pid)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// statFields are what /proc says of a process from its state on.
func statFields(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// The command in parentheses may hold anything, a parenthesis too.
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
}

// booted is the node's process 1, once the node has its own view of the machine
// and its containerd serves: before, a command inside would act on the host.
func (n *Node) booted() (int, error) {
	pid, ok := n.initPid()
	if !ok {
		return 0, fmt.Errorf("%s is not running", n.Name)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/lab-containerd-ready", pid)); err != nil {
		return 0, fmt.Errorf("%s is still booting", n.Name)
	}
	return pid, nil
}

// Command is a command inside the node, in all of its namespaces and in its
// cgroup, so that it shares the node's fate.
func (n *Node) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	pid, err := n.booted()
	if err != nil {
		return nil, err
	}
	if frozen(n.Name) {
		return nil, fmt.Errorf("%s is frozen", n.Name)
	}
	enter := append(joinCgroup(n.Name), "nsenter", "--target", strconv.Itoa(pid), "--mount", "--uts", "--net", "--pid", "--")
	all := append(enter, args...)
	return exec.CommandContext(ctx, all[0], all[1:]...), nil
}

// Exec runs a command inside the node to its end and returns what it printed.
func (n *Node) Exec(ctx context.Context, args ...string) (string, error) {
	cmd, err := n.Command(ctx, args...)
	if err != nil {
		return "", err
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s: %w: %s", n.Name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
