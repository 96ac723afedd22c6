package scenario

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Patience is how long one call may take.
const Patience = time.Minute

// Env is a driver, and what one case makes through it.
type Env struct {
	// Conn sends each call to the process that serves it, as it is at that time.
	Conn grpc.ClientConnInterface
	// Cluster is a way into it beside the driver, for the data of volumes.
	Cluster ceph.Block
	FSID    string
	Pool    string
	// Dir is kubelet's directory.
	Dir    string
	NodeID string
	// Name begins the names of all that the case makes.
	Name string
	// Claimed are the driver's capabilities: see Claimed.
	Claimed map[string]bool
	// Settle waits until the driver has nothing left to do in the background; nil
	// when nobody can tell.
	Settle func()

	undo []func(context.Context) error
}

// Failure is why a case could not be carried out.
type Failure struct{ text string }

func (f *Failure) Error() string { return f.text }

// Errorf and FailNow let require's checks end a case: see Try.
func (e *Env) Errorf(format string, args ...any) { panic(&Failure{fmt.Sprintf(format, args...)}) }

// FailNow ends the case.
func (e *Env) FailNow() { panic(&Failure{"failed"}) }

// NotOffered is why a case is not for this driver.
type NotOffered struct{ Capability string }

func (n *NotOffered) Error() string { return "the driver does not claim " + n.Capability }

// Needs ends a case that is not for a driver without a capability.
func (e *Env) Needs(capability string) {
	if !e.Claimed[capability] {
		panic(&NotOffered{capability})
	}
}

// Try runs f and returns the failure that ended it.
func Try(f func()) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *Failure:
			err = p
		case *NotOffered:
			err = p
		default:
			panic(p)
		}
	}()
	f()
	return nil
}

// Clean takes down what the case made, the last first, through the driver. When
// it fails it goes on from there when it is called again.
func (e *Env) Clean() error {
	for len(e.undo) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), Patience)
		err := e.undo[len(e.undo)-1](ctx)
		cancel()
		if err != nil {
			return err
		}
		e.undo = e.undo[:len(e.undo)-1]
	}
	return nil
}

// Later notes how something that is about to be made is taken down. To take down
// what never came to be is fine.
func (e *Env) Later(undo func(context.Context) error) { e.undo = append(e.undo, undo) }

func (e *Env) ctx() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), Patience)
}

func (e *Env) controller() csi.ControllerClient  { return csi.NewControllerClient(e.Conn) }
func (e *Env) groups() csi.GroupControllerClient { return csi.NewGroupControllerClient(e.Conn) }
func (e *Env) node() csi.NodeClient              { return csi.NewNodeClient(e.Conn) }
func (e *Env) path(parts ...string) string {
	return filepath.Join(append([]string{e.Dir, e.Name}, parts...)...)
}
func (e *Env) name(what string) string { return e.Name + "-" + what }
func (e *Env) parameters() map[string]string {
	return map[string]string{"clusterID": e.FSID, "pool": e.Pool}
}
func bytes(n int64) *csi.CapacityRange { return &csi.CapacityRange{RequiredBytes: n} }
func mode(block bool) *csi.VolumeCapability {
	return capability(block, csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER)
}
func reader() *csi.VolumeCapability {
	return capability(false, csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)
}
func only[M proto.Message](_ M, err error) error { return err }
func (e *Env) id(volume string) volumeid.ID {
	id, err := volumeid.Parse(volume)
	require.NoError(e, err)
	return id
}

func capability(block bool, access csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: access}}
	if block {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
		return c
	}
	c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}}
	return c
}

// Write puts a pattern into a volume's image.
func (e *Env) Write(volume string, pattern byte, offset int64) {
	ctx, cancel := e.ctx()
	defer cancel()
	image, err := e.Cluster.OpenImage(ctx, e.id(volume).Image, ceph.OpenOptions{})
	require.NoError(e, err)
	block := make([]byte, 4096)
	for i := range block {
		block[i] = pattern
	}
	_, err = image.WriteAt(block, offset)
	require.NoError(e, err)
	require.NoError(e, image.Flush())
	require.NoError(e, image.Close())
}
