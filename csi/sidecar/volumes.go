package sidecar

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"

	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/volumeid"
)

// Volumes knows, from the objects of Kubernetes, which volumes of the driver there
// are, where they are published, and which clusters they are in.
type Volumes struct {
	volumes     corelisters.PersistentVolumeLister
	attachments storagelisters.VolumeAttachmentLister
	classes     storagelisters.StorageClassLister
}

// NewVolumes returns what the informers know.
func NewVolumes(factory informers.SharedInformerFactory) *Volumes {
	return &Volumes{
		volumes:     factory.Core().V1().PersistentVolumes().Lister(),
		attachments: factory.Storage().V1().VolumeAttachments().Lister(),
		classes:     factory.Storage().V1().StorageClasses().Lister(),
	}
}

// handles returns the volume IDs of the driver by the names of their volumes.
func (v *Volumes) handles() (map[string]string, error) {
	list, err := v.volumes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	handles := map[string]string{}
	for _, volume := range list {
		if source := volume.Spec.CSI; source != nil && source.Driver == identity.DriverName {
			handles[volume.Name] = source.VolumeHandle
		}
	}
	return handles, nil
}

// IDs of all volumes of the driver.
func (v *Volumes) IDs(context.Context) ([]string, error) {
	handles, err := v.handles()
	var ids []string
	for _, id := range handles {
		ids = append(ids, id)
	}
	return ids, err
}

// Published returns the nodes that volumes are published to, by volume ID.
func (v *Volumes) Published(context.Context) (map[string][]string, error) {
	handles, err := v.handles()
	if err != nil {
		return nil, err
	}
	list, err := v.attachments.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	published := map[string][]string{}
	for _, a := range list {
		name := a.Spec.Source.PersistentVolumeName
		if a.Spec.Attacher != identity.DriverName || !a.Status.Attached || name == nil {
			continue
		}
		if id := handles[*name]; id != "" {
			published[id] = append(published[id], a.Spec.NodeName)
		}
	}
	return published, nil
}

// Places returns the clusters and RADOS namespaces of StorageClasses and volumes.
func (v *Volumes) Places(context.Context) ([]places.Place, error) {
	found := map[places.Place]bool{}
	classes, err := v.classes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	for _, class := range classes {
		fsid, namespace := class.Parameters["clusterID"], class.Parameters["radosNamespace"]
		if class.Provisioner == identity.DriverName && volumeid.CheckFSID(fsid) == nil && volumeid.CheckNamespace(namespace) == nil {
			found[places.Place{FSID: fsid, Namespace: namespace}] = true
		}
	}
	volumes, err := v.volumes.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	begun := map[string]bool{} // what the IDs of all volumes of a pool begin with
	for _, volume := range volumes {
		source := volume.Spec.CSI
		if source == nil || source.Driver != identity.DriverName {
			continue
		}
		begin := source.VolumeHandle[:strings.LastIndexByte(source.VolumeHandle, '.')+1]
		if begun[begin] {
			continue
		}
		if id, err := volumeid.Parse(source.VolumeHandle); err == nil {
			begun[begin], found[places.Place{FSID: id.FSID, Namespace: id.Image.Namespace}] = true, true
		}
	}
	var list []places.Place
	for p := range found {
		list = append(list, p)
	}
	return list, nil
}
