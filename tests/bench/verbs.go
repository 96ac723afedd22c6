package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/tests/bench/result"
)

// shown are the verbs of a cluster's life whose cost to a writer the end-to-end
// tests note, and what is done in each.
var shown = map[string]string{
	"driver_killed":    "every process of the driver, and the operator, killed several times",
	"driver_update":    "node plugin and data path replaced",
	"osd_remove":       "a disk taken out of the resource and wiped, and the operator lost meanwhile",
	"osd_weight":       "an OSD given half its weight, and that of its size again",
	"osd_grow":         "a disk made larger, its OSD restarted and given its share of the data",
	"osd_replace":      "a disk that died exchanged for a new one with its OSD's ID, and the operator lost meanwhile",
	"osd_move":         "a node powered off, one of its disks put into another, and its OSD taken out there in the end",
	"mon_count":        "mons 3, 1, 3, and the operator lost twice meanwhile",
	"node_drain":       "a node drained and back, a second drain refused meanwhile",
	"node_restart":     "a node shut down without a drain, and back",
	"node_lost":        "a node frozen until another had its mon, and thawed: Ceph takes 20 s to give up its OSD",
	"node_cut_off":     "a node cut off and back, the keys deleted and put back, a mon killed and hung",
	"pool_change":      "replicas, failure domain, device class and compression changed, seven times in all",
	"options":          "options of Ceph changed at run time, and others for which the OSDs restart, twice",
	"keys":             "all keys of daemons and of the CSI driver made anew, every mgr and OSD restarted for it, and the data path killed at the end",
	"encryption":       "connections encrypted, and not any more: every daemon restarted twice",
	"osd_database":     "a disk with its database on another device added and taken out",
	"osd_on_claim":     "an OSD on a portable claim moved to another node by a drain",
	"mon_count_host":   "mons 3, 1, 3 on the host network",
	"quorum_from_osds": "all mons' stores lost, the quorum rebuilt from the OSDs",
	"quorum_rebuild":   "two of three mons and their stores lost for ever, the quorum rebuilt from the third",
	"erasure_coded":    "on a pool of 2+1 chunks, two OSDs killed, one after the other",
	"upgrade":          "Ceph 18.2.7 to 20.2.4, and the operator lost meanwhile",
}

func verbEntries() []string {
	entries := []string{"mon_failover_s"}
	for verb := range shown {
		entries = append(entries, verb+"_longest_stall_ms")
	}
	return entries
}

// noted is what the end-to-end tests note of a verb.
type noted struct {
	Verb         string  `json:"verb"`
	Acknowledged int64   `json:"acknowledged"`
	LongestStall int64   `json:"longestStallMillis"`
	Seconds      float64 `json:"seconds"`
	After        float64 `json:"after"`
}

// verbs runs the end-to-end tests, which do every verb under a verifier's writes. Where
// CAIRN_E2E_NOTES names what an earlier run has noted, that is taken.
func verbs(ctx context.Context, b *bench) ([]result.Entry, error) {
	notes := os.Getenv("CAIRN_E2E_NOTES")
	if notes == "" {
		dir, err := os.MkdirTemp("", "cairn-bench-*")
		if err != nil {
			return nil, err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		notes = filepath.Join(dir, "notes")
		run := exec.CommandContext(ctx, "make", "e2e")
		run.Dir, run.Stderr = b.repository, os.Stderr
		run.Env = append(os.Environ(), "CAIRN_E2E_NOTES="+notes)
		if out, err := run.Output(); err != nil {
			return nil, fmt.Errorf("end-to-end tests: %w: %s", err, out[max(0, len(out)-4000):])
		}
	}
	lines, err := os.ReadFile(notes)
	if err != nil {
		return nil, err
	}
	return entriesOf(lines)
}

// entriesOf are the entries of what was noted.
func entriesOf(lines []byte) (entries []result.Entry, err error) {
	scanner := bufio.NewScanner(bytes.NewReader(lines))
	for scanner.Scan() {
		var n noted
		if err := json.Unmarshal(scanner.Bytes(), &n); err != nil {
			return nil, err
		}
		if n.Verb == "mon_failover" {
			entries = append(entries, result.New("verbs", "mon_failover_s", "s", n.Seconds, "from the moment a node freezes until another has a mon in its place and all are in quorum; of it spec.mon.failoverAfter is %.0f s", n.After))
			continue
		}
		entries = append(entries, result.New("verbs", n.Verb+"_longest_stall_ms", "ms", float64(n.LongestStall), "%s: %d writes acknowledged, 0 lost", shown[n.Verb], n.Acknowledged))
	}
	return entries, scanner.Err()
}

var predicted = regexp.MustCompile(`: ([a-zA-Z ]+): foreseen (\d+) bytes of \d+ \(\d+ of \d+ PGs\), moved (\d+)`)

// planError compares what plans say will move with what Ceph then moves, for an OSD
// taken out and put back, another failure domain, another replica and a new OSD.
func planError(ctx context.Context, b *bench) ([]result.Entry, error) {
	run := exec.CommandContext(ctx, filepath.Join(b.repository, "images", "in-root"), "go", "test", "-v", "-count=1", "-run", "^TestWhatCephMovesIsPredicted$", "./daemon/ceph/rados")
	run.Dir, run.Stderr = b.repository, os.Stderr
	out, err := run.Output()
	if err != nil {
		return nil, fmt.Errorf("predict what moves: %w: %s", err, out[max(0, len(out)-4000):])
	}
	worst, notes := 0.0, []string{}
	for _, found := range predicted.FindAllStringSubmatch(string(out), -1) {
		foreseen, _ := strconv.ParseFloat(found[2], 64)
		moved, _ := strconv.ParseFloat(found[3], 64)
		percent := 100 * math.Abs(foreseen-moved) / moved
		worst = max(worst, percent)
		notes = append(notes, fmt.Sprintf("%s %.1f %% of %.0f MiB", found[1], percent, moved/(1<<20)))
	}
	if len(notes) < 5 {
		return nil, errors.New("fewer than five changes were predicted: " + string(out[max(0, len(out)-2000):]))
	}
	return []result.Entry{result.New("plan", "plan_error_max_percent", "%", worst, "%s", strings.Join(notes, "; "))}, nil
}
