// Package journal keeps, on the node's own disk, one small record for each volume
// that is staged here. A record is written before each step, and says what is
// about to exist, so that whoever comes after a crash knows what to look for.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/durable"
)

// Step is how far a volume has come.
type Step string

// The steps, in their order.
const (
	Replaying Step = "replaying" // a device that can be written to may exist, its filesystem may be mounted, of a volume that is to be read only
	Attaching Step = "attaching" // a device may exist
	Mounting  Step = "mounting"  // the device exists, its filesystem may be mounted
	Staged    Step = "staged"    // all is there
	Unstaging Step = "unstaging" // it is being taken down
)

// Record is what is known of a volume on this node.
type Record struct {
	VolumeID    string   `json:"volumeID"`
	StagingPath string   `json:"stagingPath"`
	Step        Step     `json:"step"`
	Method      string   `json:"method"`
	Block       bool     `json:"block,omitempty"`
	Filesystem  string   `json:"filesystem,omitempty"`
	Options     []string `json:"options,omitempty"`
	ReadOnly    bool     `json:"readOnly,omitempty"`
	Exclusive   bool     `json:"exclusive,omitempty"`
	Encrypted   bool     `json:"encrypted,omitempty"`
	// LogReplayed: what was in the log of a filesystem that is read only is in its place.
	LogReplayed bool          `json:"logReplayed,omitempty"`
	Device      attach.Device `json:"device"`
	// Targets are where the volume is published, or about to be.
	Targets []string `json:"targets,omitempty"`
	// BootID of the kernel that the device and the mounts belong to.
	BootID string `json:"bootID"`
	// Unhealthy says why the volume cannot be used although it was staged.
	Unhealthy string `json:"unhealthy,omitempty"`
}

// Journal is a directory of records.
type Journal struct{ Dir string }

func (j Journal) path(volumeID string) string {
	return filepath.Join(j.Dir, attach.Hash(volumeID)+".json")
}

// Write puts a record down for good.
func (j Journal) Write(r Record) error {
	if err := durable.WriteJSON(j.path(r.VolumeID), r); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Read returns a volume's record, nil when there is none.
func (j Journal) Read(volumeID string) (*Record, error) {
	r, err := read(j.path(volumeID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if r.VolumeID != volumeID {
		return nil, fmt.Errorf("journal: the record of %s is of another volume, %s", volumeID, r.VolumeID)
	}
	return r, nil
}

// Remove forgets a volume.
func (j Journal) Remove(volumeID string) error {
	if err := durable.Remove(j.path(volumeID)); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// All returns every record; one that cannot be read does not hide the others.
func (j Journal) All() ([]Record, error) {
	entries, err := os.ReadDir(j.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var records []Record
	var errs []error
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".json") {
			continue // left of a write that was cut off
		}
		r, err := read(filepath.Join(j.Dir, entry.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		records = append(records, *r)
	}
	return records, errors.Join(errs...)
}

func read(path string) (*Record, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("journal: %s: %w", path, err)
	}
	return &r, nil
}
