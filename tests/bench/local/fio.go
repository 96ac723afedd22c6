package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/bench/result"
)

const (
	fioRounds  = 5
	fioSeconds = 4
	dataSize   = "512M"
	floorImage = "floor"
)

type workload struct {
	name, rw, block string
	depth           int
}

var workloads = []workload{
	{"randwrite_qd1", "randwrite", "4k", 1},
	{"randwrite_qd16", "randwrite", "4k", 16},
	{"randread_qd1", "randread", "4k", 1},
	{"randread_qd16", "randread", "4k", 16},
	{"seqwrite", "write", "1M", 4},
	{"seqread", "read", "1M", 4},
}

// fio compares a mounted volume with fio's own librbd engine.
func fio(ctx context.Context, b *bed, report func(...result.Entry)) error {
	// librbd begins in write-through and stays so until the first flush, which a
	// filesystem sends at once and fio's engine never: without this the caches
	// of the two sides would not be in the same mode.
	if err := b.conn.SetConfig(ctx, "client", "rbd_cache_writethrough_until_flush", "false"); err != nil {
		return err
	}
	v, err := mountVolume(ctx, b)
	if err != nil {
		return errors.Join(err, v.end())
	}
	return errors.Join(v.measure(ctx, report), v.end())
}

// sample is what one run of fio came to.
type sample struct{ iops, cpu float64 } // cpu in microseconds for each operation

func (v *mounted) measure(ctx context.Context, report func(...result.Entry)) error {
	floorArgs := []string{"--ioengine=rbd", "--clientname=admin", "--pool=" + pool, "--rbdname=" + floorImage}
	ourArgs := []string{"--ioengine=libaio", "--direct=1", "--filename=" + filepath.Join(v.target, "data")}
	if err := v.conn.CreateImage(ctx, ceph.ImageRef{PoolID: v.bed.pool, Name: floorImage}, ceph.ImageSpec{Size: imageSize}); err != nil {
		return err
	}
	fill := workload{"fill", "write", "1M", 4}
	for _, args := range [][]string{ourArgs, floorArgs} {
		if _, err := v.fio(ctx, fill, 0, args); err != nil {
			return fmt.Errorf("fill before measuring: %w", err)
		}
	}
	v.say("both sides are filled with %s", dataSize)
	for _, w := range workloads {
		if only := os.Getenv("CAIRN_BENCH_FIO"); only != "" && !strings.Contains(","+only+",", ","+w.name+",") {
			continue
		}
		if err := v.compare(ctx, w, ourArgs, floorArgs, report); err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return nil
}

func (v *mounted) compare(ctx context.Context, w workload, ourArgs, floorArgs []string, report func(...result.Entry)) error {
	var ours, theirs, ourCPU, theirCPU, ratios []float64
	for round := range fioRounds {
		// Neither side begins with another run's unwritten data in its cache.
		if err := v.sync(); err != nil {
			return err
		}
		a, err := v.fio(ctx, w, fioSeconds, ourArgs)
		if err != nil {
			return fmt.Errorf("through the volume: %w", err)
		}
		if err := v.sync(); err != nil {
			return err
		}
		f, err := v.fio(ctx, w, fioSeconds, floorArgs)
		if err != nil {
			return fmt.Errorf("through fio's librbd: %w", err)
		}
		v.say("%s, round %d: %.0f / %.0f IOPS, CPU/op %.0f / %.0f µs", w.name, round+1, a.iops, f.iops, a.cpu, f.cpu)
		ours, theirs, ratios = append(ours, a.iops), append(theirs, f.iops), append(ratios, a.iops/f.iops)
		ourCPU, theirCPU = append(ourCPU, a.cpu), append(theirCPU, f.cpu)
	}
	report(result.New("fio", "fio_"+w.name+"_ratio", "ratio", result.Median(ratios),
		"%.4g over %.4g IOPS of %s; %d rounds of %d s a side, ratios %s; CPU/op %.0f over %.0f µs",
		result.Median(ours), result.Median(theirs), w.block, fioRounds, fioSeconds, result.Spread(ratios), result.Median(ourCPU), result.Median(theirCPU)))
	return nil
}

// fio runs a workload for some seconds, or once over all of the data.
func (v *mounted) fio(ctx context.Context, w workload, seconds int, side []string) (sample, error) {
	args := append([]string{"--name=" + w.name, "--rw=" + w.rw, "--bs=" + w.block, "--iodepth=" + strconv.Itoa(w.depth),
		"--size=" + dataSize, "--norandommap", "--randrepeat=0", "--output-format=json"}, side...)
	if seconds > 0 {
		args = append(args, "--time_based", "--runtime="+strconv.Itoa(seconds))
	} else {
		args = append(args, "--end_fsync=1", "--fallocate=posix")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "fio", args...)
	cmd.Env = append(os.Environ(), "CEPH_CONF="+v.bed.cluster.ConfFile())
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	before := v.attachCPU()
	if err := cmd.Run(); err != nil {
		return sample{}, fmt.Errorf("fio: %w: %s%s", err, said.String(), out.String())
	}
	cpu := v.attachCPU() - before + cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	type direction struct {
		IOPS  float64 `json:"iops"`
		Total float64 `json:"total_ios"`
	}
	var answer struct {
		Jobs []struct {
			Error       int
			Read, Write direction
		} `json:"jobs"`
	}
	raw := out.Bytes()
	if start := bytes.IndexByte(raw, '{'); start > 0 {
		raw = raw[start:]
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return sample{}, fmt.Errorf("read fio's answer: %w: %s", err, raw)
	}
	if len(answer.Jobs) != 1 || answer.Jobs[0].Error != 0 {
		return sample{}, fmt.Errorf("fio failed: %s%s", said.String(), raw)
	}
	job := answer.Jobs[0]
	return sample{iops: job.Read.IOPS + job.Write.IOPS, cpu: float64(cpu.Microseconds()) / max(1, job.Read.Total+job.Write.Total)}, nil
}

// mounted is a volume as a pod has it.
type mounted struct {
	*bed
	server          *node.Server
	keeper, attach  *exec.Cmd
	id              string
	staging, target string
	staged          bool
}

// mountVolume makes a volume, and stages and publishes it as cairn-csi node
// does, with cairn-csi's own attach process.
func mountVolume(ctx context.Context, b *bed) (*mounted, error) {
	state := filepath.Join(b.dir, "state")
	v := &mounted{bed: b, staging: filepath.Join(b.dir, "kubelet", "staging"), target: filepath.Join(b.dir, "kubelet", "target")}
	v.server = v.nodeServer(state)
	if err := os.MkdirAll(filepath.Join(b.dir, "kubelet"), 0o755); err != nil {
		return v, err
	}
	if err := v.startAttach(ctx, state); err != nil {
		return v, err
	}
	ref := ceph.ImageRef{PoolID: b.pool, Name: volumeid.ImageName("bench")}
	if err := b.conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: imageSize}); err != nil {
		return v, err
	}
	id, err := volumeid.ID{FSID: b.cluster.FSID, Image: ref}.Encode()
	if err != nil {
		return v, err
	}
	v.id, v.staged = id, true
	if _, err := v.server.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: id, StagingTargetPath: v.staging, VolumeCapability: filesystem(), VolumeContext: map[string]string{"pool": pool}}); err != nil {
		return v, err
	}
	_, err = v.server.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: v.staging, TargetPath: v.target, VolumeCapability: filesystem()})
	return v, err
}

func (v *mounted) nodeServer(state string) *node.Server {
	credentials := v.bed.cluster.Credentials()
	return &node.Server{
		ID: "bench", KubeletDir: filepath.Join(v.bed.dir, "kubelet"), Method: "fuse",
		Attacher: remote.NewClient(attachSocket(state)), Host: host.NewLinux(),
		Journal:     journal.Journal{Dir: filepath.Join(state, "node")},
		Credentials: connections.Static{credentials.FSID: credentials},
	}
}

func attachSocket(state string) string { return filepath.Join(state, "attach", "attach.sock") }

// startAttach starts the two processes of a node's data path.
func (v *mounted) startAttach(ctx context.Context, state string) (err error) {
	if v.keeper, err = program("bench-keeper", "hold", "--dir", filepath.Join(state, "keeper")); err != nil {
		return err
	}
	if v.attach, err = program("bench-csi", "attach", "--state-dir", state, "--http-address", ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if _, err = v.server.Attacher.List(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the attach process does not serve: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// program starts one of Cairn's programs, which lie beside this program.
func program(name string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(self), name), args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd, nil
}

// attachCPU is the processor time that the attach process has used.
func (v *mounted) attachCPU() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", v.attach.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// sync writes back all that the volume's caches hold.
func (v *mounted) sync() error {
	file, err := os.OpenFile(filepath.Join(v.target, "data"), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = errors.Join(file.Sync(), file.Close())
	time.Sleep(time.Second) // what the OSDs still have to do is nobody's
	return err
}

// end takes all of it down again, also when the run was interrupted.
func (v *mounted) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	if v.staged {
		_, err := v.server.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: v.id, TargetPath: v.target})
		errs = append(errs, err)
		_, err = v.server.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: v.id, StagingTargetPath: v.staging})
		errs = append(errs, err)
	}
	for _, process := range []*exec.Cmd{v.attach, v.keeper} {
		if process == nil {
			continue
		}
		_ = process.Process.Signal(syscall.SIGTERM)
		_ = process.Wait()
	}
	return errors.Join(errs...)
}
