package controller

import (
	"maps"
	"slices"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/identity"
)

// topology is where the volumes of a StorageClass can be used; empty is everywhere.
type topology map[string]string

// parseTopology reads the parameter topology: key=value, comma-separated.
func parseTopology(value string) (topology, error) {
	t := topology{}
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		key, domain, found := strings.Cut(part, "=")
		if !slices.Contains(identity.TopologyKeys, key) && slices.Contains(identity.TopologyKeys, identity.TopologyPrefix+key) {
			key = identity.TopologyPrefix + key
		}
		switch {
		case !found || domain == "":
			return nil, fault.Field(fault.Invalid, "parameters.topology", "%q is not key=value", part)
		case !slices.Contains(identity.TopologyKeys, key):
			return nil, fault.Field(fault.Invalid, "parameters.topology", "%q is not one of %s", key, strings.Join(identity.TopologyKeys, ", "))
		case !domainForm.MatchString(domain):
			return nil, fault.Field(fault.Invalid, "parameters.topology", "%q is not a label's value", domain)
		case t[key] != "":
			return nil, fault.Field(fault.Invalid, "parameters.topology", "%q is there twice", key)
		}
		t[key] = domain
	}
	return t, nil
}

// accessible is the topology as a volume says it.
func (t topology) accessible() []*csi.Topology {
	if len(t) == 0 {
		return nil
	}
	return []*csi.Topology{{Segments: maps.Clone(t)}}
}

// reaches reports whether all that is in a segment can use the volumes.
func (t topology) reaches(segment *csi.Topology) bool {
	for key, domain := range t {
		if segment.GetSegments()[key] != domain {
			return false
		}
	}
	return true
}

// check refuses a volume that is wanted where the pool's failure domains are not.
func (t topology) check(want *csi.TopologyRequirement) error {
	segments := slices.Concat(want.GetRequisite(), want.GetPreferred())
	if len(segments) == 0 || slices.ContainsFunc(segments, t.reaches) {
		return nil
	}
	return fault.Field(fault.Exhausted, "accessibility_requirements", "volumes of this StorageClass can be used in %s only, and none of the places asked for is there", t)
}

func (t topology) String() string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(t)) {
		parts = append(parts, key+"="+t[key])
	}
	return strings.Join(parts, ",")
}
