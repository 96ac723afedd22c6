package controller

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// maxName is the longest name that a volume or snapshot may be asked for by.
const maxName = 128

// creation is a CreateVolume that was read and found sound.
type creation struct {
	name   string
	size   int64
	limits *csi.CapacityRange
	source *source
	qos    qos
	// log is what the image's metadata say of its filesystem's log.
	log string
	// dataPool is where the image's data is to be; empty is the image's own pool.
	dataPool string
	// encryption of the image, if it is to be encrypted.
	encryption encryption
	Parameters
}

// CreateVolume makes an image. The first call for a name costs one look-up of
// the pool, answered by the client itself, and one create; the pool's usage is
// asked for once in a while.
func (s *Server) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	c, err := parseCreate(req)
	if err != nil {
		return nil, err
	}
	c.encryption = encryption{keys: s.Keys, use: kms.Use{KMS: c.KMS, Secrets: req.GetSecrets()}}
	var volume *csi.Volume
	err = s.Clusters.Do(ctx, c.FSID, func(cluster ceph.Block) (err error) {
		volume, err = s.create(ctx, cluster, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: volume}, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return fault.Field(fault.Invalid, "name", "is empty")
	case len(name) > maxName:
		return fault.Field(fault.Invalid, "name", "is %d bytes long, more than %d", len(name), maxName)
	}
	return nil
}

func parseCreate(req *csi.CreateVolumeRequest) (*creation, error) {
	c := &creation{name: req.GetName(), limits: req.GetCapacityRange()}
	err := checkName(c.name)
	if err != nil {
		return nil, err
	}
	wants, err := capability.ParseAll(req.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	least := mebibyte
	if req.GetVolumeContentSource() == nil {
		least = leastOf(wants) // else its filesystem is there already
	}
	if c.size, err = sizeOf(c.limits, least); err != nil {
		return nil, err
	}
	if c.Parameters, err = parseParameters(req.GetParameters()); err != nil {
		return nil, err
	}
	if c.qos, err = parseQoS(req.GetMutableParameters()); err != nil {
		return nil, err
	}
	if err = c.Topology.check(req.GetAccessibilityRequirements()); err != nil {
		return nil, err
	}
	if c.source, err = c.parseSource(req.GetVolumeContentSource()); err != nil {
		return nil, err
	}
	if c.source != nil && slices.ContainsFunc(wants, func(w capability.Want) bool { return w.ReadOnly && !w.Block }) {
		c.log = imagemeta.LogPending
	}
	return c, nil
}

func (s *Server) create(ctx context.Context, cluster ceph.Block, c *creation) (*csi.Volume, error) {
	pool, err := poolID(ctx, cluster, c.Pool)
	if err != nil {
		return nil, err
	}
	ref := ceph.ImageRef{PoolID: pool, Namespace: c.Namespace, Name: volumeid.ImageName(c.name)}
	size, err := s.make(ctx, cluster, c, ref)
	if err != nil {
		return nil, err
	}
	return c.volume(ref, size)
}

func poolID(ctx context.Context, cluster ceph.Block, name string) (int64, error) {
	step.Enter(ctx, "look up pool "+name)
	pool, err := cluster.PoolID(ctx, name)
	if ceph.Is(err, ceph.NotFound) {
		return 0, fault.Field(fault.Invalid, "parameters.pool", "there is no pool %q: %w", name, err)
	}
	return pool, err
}

// make makes the image, or adopts the one that an earlier call made, and returns
// its size. A volume that exists is there in a full pool too.
func (s *Server) make(ctx context.Context, cluster ceph.Block, c *creation, ref ceph.ImageRef) (int64, error) {
	var err error
	if c.dataPool, err = s.room(ctx, cluster, c.FSID, ref.PoolID, c.size); err != nil {
		return c.orExisting(ctx, cluster, ref, err)
	}
	if c.dataPool != "" && c.Encrypted {
		return 0, fault.Field(fault.Invalid, "parameters.encrypted", "pool %s is erasure-coded: Ceph reads what was never written to an encrypted volume there as noise. Take a pool with replicas", c.Pool)
	}
	if c.source != nil {
		return s.makeFromSource(ctx, cluster, c, ref)
	}
	passphrase, there, err := c.key(ctx, cluster, ref, nil)
	if err != nil {
		return 0, err
	}
	if there {
		return c.adopt(ctx, cluster, ref, nil)
	}
	step.Enter(ctx, "create "+ref.String())
	err = cluster.CreateImage(ctx, ref, ceph.ImageSpec{Size: c.size, Features: c.Features, DataPool: c.dataPool, Metadata: c.metadata(0), Passphrase: passphrase})
	if ceph.Is(err, ceph.Exists) {
		return c.adopt(ctx, cluster, ref, nil)
	}
	if err != nil || c.qos.text == "" {
		return c.size, err
	}
	return c.size, c.limit(ctx, cluster, ref)
}

// orExisting returns the size of the volume if it exists, else the error.
func (c *creation) orExisting(ctx context.Context, cluster ceph.Block, ref ceph.ImageRef, otherwise error) (int64, error) {
	step.Enter(ctx, "look for "+ref.String())
	info, err := cluster.ImageInfo(ctx, ref)
	if ceph.Is(err, ceph.NotFound) {
		return 0, otherwise
	}
	if err != nil {
		return 0, err
	}
	return c.adopt(ctx, cluster, ref, c.begun(info))
}

func (c *creation) limit(ctx context.Context, cluster ceph.Block, ref ceph.ImageRef) error {
	step.Enter(ctx, "limit the I/O of "+ref.String())
	return cluster.LimitImage(ctx, ref, c.qos.Limits)
}

func (c *creation) volume(ref ceph.ImageRef, size int64) (*csi.Volume, error) {
	code, err := volumeid.ID{FSID: c.FSID, Image: ref}.Encode()
	if err != nil {
		return nil, err
	}
	volumeContext := map[string]string{PoolContext: c.Pool}
	if c.Encrypted {
		volumeContext[EncryptedContext] = "true"
	}
	if c.ReadAffinity {
		volumeContext[NearContext] = "true"
	}
	return &csi.Volume{
		VolumeId:           code,
		CapacityBytes:      size,
		VolumeContext:      volumeContext,
		ContentSource:      c.source.content(),
		AccessibleTopology: c.Topology.accessible(),
	}, nil
}

// PoolContext is the key in a volume's context of its pool's name, which krbd
// needs; the pool's ID, which counts, is in the volume ID.
const PoolContext = "pool"
