package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dir is where the lab keeps its state.
func Dir() string {
	if dir := os.Getenv("CAIRN_LAB_DIR"); dir != "" {
		return filepath.Clean(dir)
	}
	return "/var/lib/cairn-lab"
}

// CacheDir is where what outlives a lab is kept.
func CacheDir() string {
	if dir := os.Getenv("CAIRN_CACHE"); dir != "" {
		return filepath.Clean(dir)
	}
	return "/var/cache/cairn"
}

// Kubeconfig is the administrator's kubeconfig, good on the host.
func Kubeconfig() string { return filepath.Join(Dir(), "kubeconfig") }

// KubernetesDir holds the parts of Kubernetes under their names.
func KubernetesDir() string { return filepath.Join(CacheDir(), "bin", "kubernetes") }

func optionsFile() string           { return filepath.Join(Dir(), "options.json") }
func logDir() string                { return filepath.Join(Dir(), "log") }
func pkiDir() string                { return filepath.Join(Dir(), "pki") }
func disksDir() string              { return filepath.Join(Dir(), "disks") }
func pidFile(name string) string    { return filepath.Join(Dir(), "pid", name) }
func nodeDir(name string) string    { return filepath.Join(Dir(), "nodes", name) }
func containerdDir(n string) string { return filepath.Join(CacheDir(), "lab", n, "containerd") }
func imageStoreDir() string         { return filepath.Join(CacheDir(), "images") }

func nodeName(index int) string { return "node" + strconv.Itoa(index) }

func makeStateDirs(options Options) error {
	dirs := []string{logDir(), pkiDir(), disksDir(), KubernetesDir(), filepath.Dir(pidFile("x"))}
	for index := 1; index <= options.Nodes; index++ {
		name := nodeName(index)
		dirs = append(dirs, containerdDir(name))
		for _, bind := range nodeBinds(name) {
			dirs = append(dirs, bind.source)
		}
	}
	if err := makeDirs(dirs...); err != nil {
		return err
	}
	return makeMountPoints()
}

func makeDirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the lab's directories: %w", err)
		}
	}
	return nil
}

func saveOptions(options Options) error {
	data, err := json.Marshal(options)
	if err != nil {
		return fmt.Errorf("encode options: %w", err)
	}
	return os.WriteFile(optionsFile(), data, 0o644)
}

func loadOptions() (Options, error) {
	var options Options
	data, err := os.ReadFile(optionsFile())
	if err != nil {
		return options, fmt.Errorf("there is no lab: bring it up with: lab up: %w", err)
	}
	if err := json.Unmarshal(data, &options); err != nil {
		return options, fmt.Errorf("decode %s: %w", optionsFile(), err)
	}
	return options, nil
}

// lock keeps two commands from changing the lab at once.
func lock() (func(), error) {
	if err := os.MkdirAll(filepath.Join(CacheDir(), "lock"), 0o755); err != nil {
		return nil, fmt.Errorf("lock the lab: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(CacheDir(), "lock", "lab"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock the lab: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock the lab: %w", err)
	}
	return func() { _ = file.Close() }, nil
}
