package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bootModules are what the guest needs to reach its root filesystem and its
// network. All others it loads from there.
var bootModules = []string{"virtio_pci", "9pnet_virtio", "9p", "virtio_net"}

// kernel is a stock kernel of Debian below a root.
type kernel struct{ image, modules string }

func findKernel(root string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return kernel{}, fmt.Errorf("look for a kernel below %s: found %q (%w)", root, images, err)
	}
	_, version, _ := strings.Cut(filepath.Base(images[0]), "-")
	return kernel{image: images[0], modules: filepath.Join(root, "lib/modules", version)}, nil
}

// order returns the files of modules and of those that they depend on, in the
// order in which they are loaded.
func (k kernel) order(names []string) ([]string, error) {
	needs, err := k.dependencies()
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range names {
		deps, ok := needs[name]
		if !ok {
			return nil, fmt.Errorf("the kernel at %s has no module %s", k.image, name)
		}
		for _, file := range slices.Backward(deps) {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// dependencies reads modules.dep: by name of a module its file and then those of
// all that it needs, the last to be loaded first.
func (k kernel) dependencies() (map[string][]string, error) {
	raw, err := os.ReadFile(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("read the modules' dependencies: %w", err)
	}
	needs := map[string][]string{}
	for line := range strings.Lines(string(raw)) {
		file, deps, _ := strings.Cut(line, ":")
		name := strings.TrimSuffix(filepath.Base(file), ".ko")
		needs[name] = append([]string{file}, strings.Fields(deps)...)
	}
	return needs, nil
}
