package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// floor starts three mons, two mgrs and an OSD on each of the first three devices
// by hand, with the options that the lab's cluster has, then adds an OSD on each
// of the others, and prints how long both took.
func floor(ctx context.Context, devices []string) (err error) {
	dir, err := os.MkdirTemp("", "cairn-bench-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	settings, err := labSettings()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	first, others := devices[:min(3, len(devices))], devices[min(3, len(devices)):]
	began := time.Now()
	cluster, err := localceph.Start(ctx, filepath.Join(dir, "ceph"), localceph.Options{
		Mons: 3, Mgrs: 2, Devices: first, Spare: len(others), Settings: settings, NoWait: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Stop()) }()
	if err := complete(ctx, cluster, len(first)); err != nil {
		return err
	}
	founded := time.Now()
	if err := cluster.Add(ctx, others...); err != nil {
		return err
	}
	if err := complete(ctx, cluster, len(devices)); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{"seconds": founded.Sub(began).Seconds(), "added": time.Since(founded).Seconds()})
}

// labSettings are the options of the lab's cluster as lines of ceph.conf. Beside
// them stand those without which three daemons on one address are no cluster.
func labSettings() (string, error) {
	raw, err := os.ReadFile("tests/lab/cluster-config.yaml")
	if err != nil {
		return "", err
	}
	var patch struct {
		Spec struct {
			Ceph struct {
				Config map[string]map[string]string `json:"config"`
			} `json:"ceph"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(raw, &patch); err != nil {
		return "", fmt.Errorf("read the lab's options: %w", err)
	}
	text := "osd_crush_chooseleaf_type = 0\nauth_allow_insecure_global_id_reclaim = false\n"
	for section, options := range patch.Spec.Ceph.Config {
		if section != "global" {
			return "", fmt.Errorf("the lab has options for %q: only global ones are known here", section)
		}
		for option, value := range options {
			text += option + " = " + value + "\n"
		}
	}
	return text, nil
}

// complete waits until every mon is in the quorum, a mgr is active and every OSD is up and in.
func complete(ctx context.Context, cluster *localceph.Cluster, osds int) error {
	conn, err := rados.Connector{}.Connect(ctx, cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for {
		status, err := conn.Status(ctx)
		if err == nil && len(status.Quorum) == 3 && status.ActiveMgr != "" && status.OSDsUp == osds && status.OSDsIn == osds {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster made by hand is not complete: %+v: %w", status, errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
