package controller

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/volumeid"
)

// Parameters of a StorageClass.
type Parameters struct {
	// FSID of the cluster: clusterID.
	FSID string
	// Pool that images are made in: pool.
	Pool string
	// Namespace in the pool: radosNamespace.
	Namespace string
	// Features of new images: imageFeatures, comma-separated; none is the default set.
	Features []string
	// Topology is where the pool's failure domains are: topology, as key=value.
	Topology topology
	// Encrypted volumes, with keys by the KMS of that ID; empty is a Secret:
	// encrypted, encryptionKMS.
	Encrypted bool
	KMS       string
	// ReadAffinity has nodes read from the nearest replica: readAffinity.
	ReadAffinity bool
	// Claim that the volume is for, as Kubernetes names it; only noted.
	Claim string
}

// The prefix of what Kubernetes itself adds to a StorageClass's parameters.
const kubernetesPrefix = "csi.storage.k8s.io/"

// NearContext is the key in a volume's context that says that nodes read it from the
// nearest replica.
const NearContext = "readAffinity"

// knownFeatures are those an image may be given at its making.
var knownFeatures = []string{"layering", "striping", "exclusive-lock", "object-map", "fast-diff", "deep-flatten", "journaling", "data-pool"}

// needs is which feature another builds on.
var needs = map[string]string{"object-map": "exclusive-lock", "fast-diff": "object-map", "journaling": "exclusive-lock"}

// poolForm is a pool's name: printable, and without what separates names of RBD.
var poolForm = regexp.MustCompile(`^[!-.0-?A-~]{1,128}$`)

// domainForm is a label's value.
var domainForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

func parseParameters(given map[string]string) (p Parameters, err error) {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value := given[key]
		switch key {
		case "clusterID":
			p.FSID = value
		case "pool":
			p.Pool = value
		case "radosNamespace":
			p.Namespace = value
		case "imageFeatures":
			p.Features = splitFeatures(value)
		case "topology":
			if p.Topology, err = parseTopology(value); err != nil {
				return p, err
			}
		case "encrypted":
			if p.Encrypted, err = parseBool(key, value); err != nil {
				return p, err
			}
		case "readAffinity":
			if p.ReadAffinity, err = parseBool(key, value); err != nil {
				return p, err
			}
		case "encryptionKMS":
			p.KMS = value
		default:
			if !strings.HasPrefix(key, kubernetesPrefix) {
				return p, fault.Field(fault.Invalid, "parameters."+key, "is not a parameter of this driver: it knows clusterID, pool, radosNamespace, imageFeatures, topology, readAffinity, encrypted, encryptionKMS")
			}
		}
	}
	p.Claim = claim(given)
	return p, p.check()
}

func parseBool(key, value string) (bool, error) {
	if value != "true" && value != "false" {
		return false, fault.Field(fault.Invalid, "parameters."+key, "%q is neither true nor false", value)
	}
	return value == "true", nil
}

func claim(given map[string]string) string {
	namespace, name := given[kubernetesPrefix+"pvc/namespace"], given[kubernetesPrefix+"pvc/name"]
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}

func splitFeatures(value string) []string {
	var features []string
	for f := range strings.SplitSeq(value, ",") {
		if f = strings.TrimSpace(f); f != "" {
			features = append(features, f)
		}
	}
	slices.Sort(features)
	return slices.Compact(features)
}

func (p Parameters) check() error {
	if p.FSID == "" {
		return fault.Field(fault.Invalid, "parameters.clusterID", "is missing: want the fsid of the cluster")
	}
	if err := volumeid.CheckFSID(p.FSID); err != nil {
		return fault.Field(fault.Invalid, "parameters.clusterID", "%q %w", p.FSID, err)
	}
	if p.Pool == "" {
		return fault.Field(fault.Invalid, "parameters.pool", "is missing")
	}
	if !poolForm.MatchString(p.Pool) {
		return fault.Field(fault.Invalid, "parameters.pool", "%q is not a pool's name", p.Pool)
	}
	if err := volumeid.CheckNamespace(p.Namespace); err != nil {
		return fault.Field(fault.Invalid, "parameters.radosNamespace", "%q %w", p.Namespace, err)
	}
	if err := p.checkEncryption(); err != nil {
		return err
	}
	return p.checkFeatures()
}

func (p Parameters) checkFeatures() error {
	for _, f := range p.Features {
		if !slices.Contains(knownFeatures, f) {
			return fault.Field(fault.Invalid, "parameters.imageFeatures", "%q is not one of %s", f, strings.Join(knownFeatures, ", "))
		}
		if base := needs[f]; base != "" && !slices.Contains(p.Features, base) {
			return fault.Field(fault.Invalid, "parameters.imageFeatures", "%s needs %s", f, base)
		}
	}
	if len(p.Features) > 0 && !slices.Contains(p.Features, "exclusive-lock") {
		return fault.Field(fault.Invalid, "parameters.imageFeatures", "exclusive-lock is missing: it keeps a volume from having two writers")
	}
	return nil
}
