// Package result keeps what was measured: docs/benchmarks.json, and the page
// that is rendered from it.
package result

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Entry is one measured value.
type Entry struct {
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit"`
	Command string  `json:"command"`
	Date    string  `json:"date"`
	Note    string  `json:"note"`
}

// New is an entry measured today by `go run ./tests/bench GROUP`.
func New(group, name, unit string, value float64, note string, args ...any) Entry {
	return Entry{
		Name: name, Value: Round(value), Unit: unit, Command: "go run ./tests/bench " + group,
		Date: time.Now().UTC().Format(time.DateOnly), Note: fmt.Sprintf(note, args...),
	}
}

// Round keeps three digits.
func Round(v float64) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	return rounded
}

// Median of some values; 0 of none.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Quantile of some values by the nearest rank, the median of an even number by the mean of two.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	if q == 0.5 && len(sorted)%2 == 0 {
		return (sorted[len(sorted)/2-1] + sorted[len(sorted)/2]) / 2
	}
	rank := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}

// Spread is the least and the greatest of some values, as text.
func Spread(values []float64) string {
	if len(values) == 0 {
		return "none"
	}
	return fmt.Sprintf("%g to %g", Round(slices.Min(values)), Round(slices.Max(values)))
}

// Merge writes new entries into docs/benchmarks.json of a repository, keeps what
// was not measured anew, and renders docs/benchmarks.md.
func Merge(repository string, fresh []Entry) error {
	file := filepath.Join(repository, "docs", "benchmarks.json")
	all := map[string]Entry{}
	raw, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the earlier results: %w", err)
	default:
		var old []Entry
		if err := json.Unmarshal(raw, &old); err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		for _, e := range old {
			all[e.Name] = e
		}
	}
	for _, e := range fresh {
		all[e.Name] = e
	}
	var list []Entry
	for _, name := range slices.Sorted(maps.Keys(all)) {
		list = append(list, all[name])
	}
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(list); err != nil {
		return fmt.Errorf("encode the results: %w", err)
	}
	if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(strings.TrimSuffix(file, ".json")+".md", []byte(render(list)), 0o644)
}

const page = `# Benchmarks

Written by ` + "`make bench`" + ` from [benchmarks.json](benchmarks.json); do not edit. ` + "`go run ./tests/bench NAME…`" + ` measures some
of them anew and keeps the rest.

A *ratio* compares Cairn with the least that could do the same job: of times (create, install) it is Cairn's over the
floor's, so that 1 is as good as the floor and less is better; of fio's operations a second (fio) it is Cairn's over the
floor's too, so that 1 is as good as the floor and **more** is better. Both sides of a ratio come from one run and
take turns; the value is the median of the rounds' ratios.

| name | value | unit | date | note |
| --- | ---: | --- | --- | --- |
%s
## How it is measured

* **create_\*, delete_\*, snapshot_\*, clone_\*, restore_\***: a call of the Controller service through gRPC over the driver's unix socket, served
  as ` + "`cairn-csi controller`" + ` serves it, over the fewest calls of librbd that could do the same on a connection of its own: a bare create
  with the same size and features; a rename, which frees the name and leaves the data for later as the driver does; open, snapshot, close;
  snapshot, clone and removal of the snapshot; a clone of a snapshot. c1, c16 and c32 are callers at once. **_rados_ops** are the operations of one call
  that the OSDs counted themselves.
* **fio_\***: a volume that the Node service staged and published with xfs, its device from the real ` + "`cairn-csi attach`" + ` process,
  against fio's own librbd engine on an image of the same size. fio's side by libaio with direct I/O. On both
  sides 512 MiB are written before; 4 KiB random at depth 1 and 16, 1 MiB sequential at depth 4; librbd's cache as it is by
  default on both sides; three replicas. "CPU/op" in a note is the time that the client side (fio and, of ours, the attach
  process) ran on a processor for each operation.
* **install_ratio**: ` + "`kubectl apply`" + ` of a StorageCluster of three mons, two mgrs and three OSDs until it is Ready, over the same
  daemons with the same options on the same kind of disks started by hand (tests/localceph). The operator runs already and the images are in
  place. Between two installs everything is deleted and the disks are made blank.
* **add_three_osds_ratio**: from the edit of the same resource that names a second disk on each of the three nodes until its status says that all six
  OSDs are up and in, over three more OSDs started by hand on the floor's cluster.
* **sim_\***: the operator beside a real API server with 100 nodes, 1,000 disks, and the pods, Secrets and Deployments of 1,000 OSDs; the nodes and pods are
  written by hand and Ceph is the model that the tests use. sim_reconcile_ms_1000 is one whole reconcile of the cluster when nothing is left to do, and
  sim_reconcile_growth_100_to_1000 how many times one at 100 OSDs that is. sim_writes_steady counts what the operator wrote, to the API server and to Ceph, in 20 of them.
  sim_plan_upgrade_ms_1000 is the plan when a new image changes the pod of every daemon. sim_operator_mib_1000 is VmRSS of the whole operator, without librados.
* **claims_\*_per_s_1000**: 1,000 claims of 1 GiB made by kubectl, until all are bound, and deleted, until no PersistentVolume is left. The lab's
  kube-controller-manager may make 200 requests a second: with Kubernetes' default of 20 its binder, which makes five for each claim, binds four a second whatever the driver does.
* **controller_mib_10k**: VmRSS of ` + "`cairn-csi controller`" + `, 45 s after its start, beside a real API server that has 10,000 bound claims with their
  volumes and attachments.
* **lab_up_warm_s**: ` + "`lab up`" + ` until three nodes are Ready with every image in place, with all caches warm.
* **plugin_kill_stall_ms, datapath_kill_stall_ms**: the longest time that one write of the verifier waited (4 KiB, O_DIRECT and O_DSYNC, eight at once)
  while the node plugin, and then the process that serves the images, on its node was killed five times with SIGKILL.
* **attach_ms_p50**: from the call to the attach process until the device is there: open the image, take its lock, serve it, bind the loop device.
* **rss_\***: VmRSS from /proc with 100 volumes bound and attached to one node. rss_node_mib is the node plugin and the attach process
  together; rss_per_volume_mib is what the attach process grew by for each of the 100 volumes.

The machine: 2 cores that other work shares, all disks loop devices or files on one disk, all daemons and clients on it
at once. Absolute numbers mean little on it; ratios are what to look at.
`

func render(list []Entry) string {
	var rows strings.Builder
	for _, e := range list {
		note := strings.ReplaceAll(e.Note, "|", "\\|")
		fmt.Fprintf(&rows, "| `%s` | %s | %s | %s | %s |\n", e.Name, strconv.FormatFloat(e.Value, 'f', -1, 64), e.Unit, e.Date, note)
	}
	return fmt.Sprintf(page, rows.String())
}
