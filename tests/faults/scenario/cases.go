package scenario

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

// Case is one way of calling an RPC: prepare makes what must be there and
// returns the request.
type Case struct {
	RPC     RPC
	Name    string
	Prepare func(*Env) proto.Message
}

func (c Case) String() string {
	if c.Name == "" {
		return c.RPC.Service + "." + c.RPC.Name
	}
	return c.RPC.Service + "." + c.RPC.Name + " (" + c.Name + ")"
}

type prepare = func(*Env) proto.Message

func plain(req proto.Message) map[string]prepare {
	return map[string]prepare{"": func(*Env) proto.Message { return req }}
}

// byKind makes a case for filesystems and one for raw block.
func byKind(p func(e *Env, c *csi.VolumeCapability) proto.Message) map[string]prepare {
	return map[string]prepare{
		"mount": func(e *Env) proto.Message { return p(e, mode(false)) },
		"block": func(e *Env) proto.Message { return p(e, mode(true)) },
	}
}

// cases has the ways of calling each RPC. An RPC that the driver offers and
// that is not here fails the tests.
var cases = map[string]map[string]prepare{
	"Identity/GetPluginInfo":         plain(&csi.GetPluginInfoRequest{}),
	"Identity/GetPluginCapabilities": plain(&csi.GetPluginCapabilitiesRequest{}),
	"Identity/Probe":                 plain(&csi.ProbeRequest{}),

	"Controller/ControllerGetCapabilities": plain(&csi.ControllerGetCapabilitiesRequest{}),
	"Controller/CreateVolume": {
		"empty":     func(e *Env) proto.Message { return e.willMake(e.create("v", nil)) },
		"encrypted": func(e *Env) proto.Message { return e.willMake(e.encrypted()) },
		"from a snapshot": func(e *Env) proto.Message {
			return e.willMake(e.create("restored", fromSnapshot(e.Snapshot("s", e.Data("v")))))
		},
		"from a volume": func(e *Env) proto.Message { return e.willMake(e.create("clone", e.fromVolume(e.Data("v")))) },
		"from a snapshot, larger": func(e *Env) proto.Message {
			req := e.create("restored", fromSnapshot(e.Snapshot("s", e.Data("v"))))
			req.CapacityRange = bytes(grown)
			return e.willMake(req)
		},
		"from a member of a group snapshot": func(e *Env) proto.Message {
			a, b := e.Data("a"), e.Data("b")
			return e.willMake(e.create("restored", fromSnapshot(member(e.Group("g", a, b), a))))
		},
	},
	"Controller/DeleteVolume": {
		"": func(e *Env) proto.Message { return &csi.DeleteVolumeRequest{VolumeId: e.Data("v")} },
		"with a snapshot": func(e *Env) proto.Message {
			v := e.Data("v")
			e.Snapshot("s", v)
			return &csi.DeleteVolumeRequest{VolumeId: v}
		},
		"with a clone": func(e *Env) proto.Message {
			v := e.Data("v")
			e.Volume("clone", e.fromVolume(v))
			return &csi.DeleteVolumeRequest{VolumeId: v}
		},
		"a clone": func(e *Env) proto.Message {
			return &csi.DeleteVolumeRequest{VolumeId: e.Volume("clone", e.fromVolume(e.Data("v")))}
		},
		"of a restored snapshot": func(e *Env) proto.Message {
			v := e.Data("v")
			e.Volume("restored", fromSnapshot(e.Snapshot("s", v)))
			return &csi.DeleteVolumeRequest{VolumeId: v}
		},
	},
	"Controller/ControllerPublishVolume": byKind(func(e *Env, c *csi.VolumeCapability) proto.Message {
		return &csi.ControllerPublishVolumeRequest{VolumeId: e.Volume("v", nil), NodeId: e.NodeID, VolumeCapability: c}
	}),
	"Controller/ControllerUnpublishVolume": {"": func(e *Env) proto.Message {
		v := e.Volume("v", nil)
		ctx, cancel := e.ctx()
		defer cancel()
		require.NoError(e, only(e.controller().ControllerPublishVolume(ctx,
			&csi.ControllerPublishVolumeRequest{VolumeId: v, NodeId: e.NodeID, VolumeCapability: mode(false)})))
		return &csi.ControllerUnpublishVolumeRequest{VolumeId: v, NodeId: e.NodeID}
	}},
	"Controller/ValidateVolumeCapabilities": {"": func(e *Env) proto.Message {
		return &csi.ValidateVolumeCapabilitiesRequest{VolumeId: e.Volume("v", nil), VolumeCapabilities: []*csi.VolumeCapability{mode(false)}}
	}},
	"Controller/ListVolumes": {"": func(e *Env) proto.Message {
		e.Volume("a", nil)
		e.Volume("b", nil)
		return &csi.ListVolumesRequest{}
	}},
	"Controller/GetCapacity": {"": func(e *Env) proto.Message { return &csi.GetCapacityRequest{Parameters: e.parameters()} }},
	"Controller/CreateSnapshot": {"": func(e *Env) proto.Message {
		return e.willSnapshot(&csi.CreateSnapshotRequest{Name: e.name("s"), SourceVolumeId: e.Data("v")})
	}},
	"Controller/DeleteSnapshot": {
		"": func(e *Env) proto.Message {
			return &csi.DeleteSnapshotRequest{SnapshotId: e.Snapshot("s", e.Data("v"))}
		},
		"with a restored volume": func(e *Env) proto.Message {
			s := e.Snapshot("s", e.Data("v"))
			e.Volume("restored", fromSnapshot(s))
			return &csi.DeleteSnapshotRequest{SnapshotId: s}
		},
		"the last of a deleted volume": func(e *Env) proto.Message {
			v := e.Data("v")
			s := e.Snapshot("s", v)
			ctx, cancel := e.ctx()
			defer cancel()
			require.NoError(e, only(e.controller().DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v})))
			return &csi.DeleteSnapshotRequest{SnapshotId: s}
		},
	},
	"Controller/ListSnapshots": {"": func(e *Env) proto.Message {
		v := e.Data("v")
		e.Snapshot("a", v)
		e.Snapshot("b", v)
		return &csi.ListSnapshotsRequest{SourceVolumeId: v}
	}},
	"Controller/GetSnapshot": {"": func(e *Env) proto.Message {
		return &csi.GetSnapshotRequest{SnapshotId: e.Snapshot("s", e.Data("v"))}
	}},
	"Controller/ControllerExpandVolume": {"": func(e *Env) proto.Message {
		return &csi.ControllerExpandVolumeRequest{VolumeId: e.Volume("v", nil), CapacityRange: bytes(grown)}
	}},
	"Controller/ControllerGetVolume": {"": func(e *Env) proto.Message {
		return &csi.ControllerGetVolumeRequest{VolumeId: e.Volume("v", nil)}
	}},
	"Controller/ControllerGetVolumeHealth": {"": func(e *Env) proto.Message {
		return &csi.ControllerGetVolumeHealthRequest{VolumeId: e.Volume("v", nil)}
	}},
	"Controller/ControllerListVolumeHealth": {"": func(e *Env) proto.Message {
		e.Volume("v", nil)
		return &csi.ControllerListVolumeHealthRequest{}
	}},
	"Controller/ControllerModifyVolume": {"": func(e *Env) proto.Message {
		return &csi.ControllerModifyVolumeRequest{VolumeId: e.Volume("v", nil), MutableParameters: map[string]string{"iops": "500"}}
	}},

	"GroupController/GroupControllerGetCapabilities": plain(&csi.GroupControllerGetCapabilitiesRequest{}),
	"GroupController/CreateVolumeGroupSnapshot": {"": func(e *Env) proto.Message {
		return e.willGroup(&csi.CreateVolumeGroupSnapshotRequest{Name: e.name("g"), SourceVolumeIds: []string{e.Data("a"), e.Data("b")}})
	}},
	"GroupController/DeleteVolumeGroupSnapshot": {
		"": func(e *Env) proto.Message { return ungroup(e.Group("g", e.Data("a"), e.Data("b"))) },
		"with a restored member": func(e *Env) proto.Message {
			a, b := e.Data("a"), e.Data("b")
			g := e.Group("g", a, b)
			e.Volume("restored", fromSnapshot(member(g, a)))
			return ungroup(g)
		},
	},
	"GroupController/GetVolumeGroupSnapshot": {"": func(e *Env) proto.Message {
		g := e.Group("g", e.Data("a"), e.Data("b"))
		return &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: g.GetGroupSnapshotId(), SnapshotIds: members(g)}
	}},

	"SnapshotMetadata/GetMetadataAllocated": {"": func(e *Env) proto.Message {
		return &csi.GetMetadataAllocatedRequest{SnapshotId: e.Snapshot("s", e.Data("v"))}
	}},
	"SnapshotMetadata/GetMetadataDelta": {"": func(e *Env) proto.Message {
		v := e.Data("v")
		base := e.Snapshot("a", v)
		e.Write(v, 0x77, 9<<20)
		return &csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: e.Snapshot("b", v)}
	}},

	"Node/NodeGetCapabilities": plain(&csi.NodeGetCapabilitiesRequest{}),
	"Node/NodeGetInfo":         plain(&csi.NodeGetInfoRequest{}),
	"Node/NodeStageVolume": {
		"mount":         func(e *Env) proto.Message { return e.stage(e.Volume("v", nil), mode(false)) },
		"block":         func(e *Env) proto.Message { return e.stage(e.Volume("v", nil), mode(true)) },
		"first to read": func(e *Env) proto.Message { return e.stage(e.unread(), reader()) },
	},
	"Node/NodeUnstageVolume": byKind(func(e *Env, c *csi.VolumeCapability) proto.Message {
		v := e.Volume("v", nil)
		e.Stage(v, c)
		return &csi.NodeUnstageVolumeRequest{VolumeId: v, StagingTargetPath: e.path("staging")}
	}),
	"Node/NodePublishVolume": byKind(func(e *Env, c *csi.VolumeCapability) proto.Message {
		v := e.Volume("v", nil)
		e.Stage(v, c)
		return e.publish(v, "target", c)
	}),
	"Node/NodeUnpublishVolume": byKind(func(e *Env, c *csi.VolumeCapability) proto.Message {
		v := e.Volume("v", nil)
		e.Stage(v, c)
		e.Publish(v, "target", c)
		return &csi.NodeUnpublishVolumeRequest{VolumeId: v, TargetPath: e.path("target")}
	}),
	"Node/NodeGetVolumeStats": byKind(func(e *Env, c *csi.VolumeCapability) proto.Message {
		return &csi.NodeGetVolumeStatsRequest{VolumeId: e.published(c), VolumePath: e.path("target")}
	}),
	"Node/NodeGetVolumeHealth": byKind(func(e *Env, c *csi.VolumeCapability) proto.Message {
		return &csi.NodeGetVolumeHealthRequest{VolumeId: e.published(c), VolumePublishPath: e.path("target")}
	}),
	"Node/NodeGetStorageHealth": plain(&csi.NodeGetStorageHealthRequest{}),
	"Node/NodeExpandVolume": byKind(func(e *Env, c *csi.VolumeCapability) proto.Message {
		v := e.published(c)
		e.Grow(v, grown)
		return &csi.NodeExpandVolumeRequest{VolumeId: v, VolumePath: e.path("target"), StagingTargetPath: e.path("staging"),
			CapacityRange: bytes(grown), VolumeCapability: c}
	}),
}

func (e *Env) published(c *csi.VolumeCapability) string {
	v := e.Volume("v", nil)
	e.Stage(v, c)
	e.Publish(v, "target", c)
	return v
}

// encrypted asks for a volume with a key from a Secret.
func (e *Env) encrypted() *csi.CreateVolumeRequest {
	req := e.create("v", nil)
	req.Parameters["encrypted"] = "true"
	req.Secrets = map[string]string{"encryptionKey": strings.Repeat("0123456789abcdef", 4)}
	return req
}

// The requests that make something say how it is taken down: they are sent
// again to learn its ID, as one who lost the answer would.

func (e *Env) willMake(req *csi.CreateVolumeRequest) proto.Message {
	e.Later(func(ctx context.Context) error {
		answer, err := e.controller().CreateVolume(ctx, req)
		if err != nil {
			return err
		}
		return only(e.controller().DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: answer.GetVolume().GetVolumeId()}))
	})
	return req
}

func (e *Env) willSnapshot(req *csi.CreateSnapshotRequest) proto.Message {
	e.Later(func(ctx context.Context) error {
		answer, err := e.controller().CreateSnapshot(ctx, req)
		if err != nil {
			return err
		}
		return only(e.controller().DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: answer.GetSnapshot().GetSnapshotId()}))
	})
	return req
}

func (e *Env) willGroup(req *csi.CreateVolumeGroupSnapshotRequest) proto.Message {
	e.Later(func(ctx context.Context) error {
		answer, err := e.groups().CreateVolumeGroupSnapshot(ctx, req)
		if err != nil {
			return err
		}
		return only(e.groups().DeleteVolumeGroupSnapshot(ctx, ungroup(answer.GetGroupSnapshot())))
	})
	return req
}

// Cases returns the cases of an RPC, in order of their names.
func Cases(r RPC) []Case {
	named := cases[r.Service+"/"+r.Name]
	var all []Case
	for _, name := range slices.Sorted(maps.Keys(named)) {
		all = append(all, Case{RPC: r, Name: name, Prepare: named[name]})
	}
	return all
}
