package disk

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// patience is how long a device may take to answer.
const patience = 10 * time.Second

// looker looks at what is on a device.
type looker interface {
	label(b block) (*label, error)
	judge(ctx context.Context, b block) (verdict, error)
}

// Inventory lists the disks of a node, each with whether Cairn may use it. It
// is to be kept: it remembers what it found.
type Inventory struct {
	host   Host
	looker looker

	mu      sync.Mutex
	waiting map[string]bool // devices that have not answered yet
}

// NewInventory makes the inventory of a host.
func NewInventory(host Host) *Inventory {
	return &Inventory{host: host, looker: newContents(host), waiting: map[string]bool{}}
}

// Devices looks at all disks, by kernel name.
func (i *Inventory) Devices(ctx context.Context) ([]v1alpha1.Device, error) {
	blocks, err := listBlocks(i.host)
	if err != nil {
		return nil, err
	}
	uses, err := readUses(i.host)
	if err != nil {
		return nil, err
	}
	devices := make([]v1alpha1.Device, len(blocks))
	var all sync.WaitGroup
	for n, b := range blocks {
		all.Go(func() { devices[n] = describe(b, i.patiently(ctx, b, uses.of(b))) })
	}
	all.Wait()
	return devices, ctx.Err()
}

// patiently judges a device, and gives up on one that does not answer: a
// failing disk must not hide the others.
func (i *Inventory) patiently(ctx context.Context, b block, use string) verdict {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if !i.begin(b.name) {
		return unprobed(fmt.Errorf("it still does not answer"))
	}
	answer := make(chan verdict, 1)
	go func() {
		v := judge(ctx, i.looker, b, use)
		i.end(b.name) // before the answer: the next look may begin when this one has it
		answer <- v
	}()
	select {
	case v := <-answer:
		return v
	case <-ctx.Done():
		return unprobed(fmt.Errorf("no answer within %s", patience))
	}
}

func (i *Inventory) begin(name string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.waiting[name] {
		return false
	}
	i.waiting[name] = true
	return true
}

func (i *Inventory) end(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.waiting, name)
}

// judge asks in the order of what matters most: whose OSD it is, who uses it,
// whether it could serve at all, and last what is on it. Where the first has no
// answer that is said, whatever else is known: it may be an OSD.
func judge(ctx context.Context, l looker, b block, use string) verdict {
	label, err := l.label(b)
	if label != nil {
		return judgeLabel(*label)
	}
	if err != nil && use != "" {
		return unprobed(fmt.Errorf("%s; %w", use, err))
	}
	if err != nil {
		return unprobed(err)
	}
	if v := judgeBlock(b, use); !v.usable() {
		return v
	}
	v, err := l.judge(ctx, b)
	if err != nil {
		return unprobed(err)
	}
	return v
}

func unprobed(err error) verdict {
	return refuse(v1alpha1.DeviceCannotBeProbed, "%s; the disk may be failing, see the node's kernel log", printable(err.Error(), 2*maxText))
}

func describe(b block, v verdict) v1alpha1.Device {
	return v1alpha1.Device{
		Name:       b.name,
		ID:         stableName(b.links),
		Links:      absolute(b.links),
		Size:       *resource.NewQuantity(b.size, resource.BinarySI),
		Rotational: b.rotational,
		Model:      b.model,
		Serial:     b.serial,
		Usable:     v.usable(),
		Reason:     v.reason,
		Message:    v.message,
		OSD:        v.osd,
		DBOf:       v.dbOf,
	}
}

func absolute(links []string) []string {
	var paths []string
	for _, link := range links {
		paths = append(paths, "/dev/disk/"+link)
	}
	return paths
}

// stablePath is the path by which to speak of a device.
func stablePath(b block) string {
	if b.path != "" {
		return b.path
	}
	name := stableName(b.links)
	if name == "" || strings.HasPrefix(name, "/") {
		return name
	}
	return "/dev/disk/by-id/" + name
}
