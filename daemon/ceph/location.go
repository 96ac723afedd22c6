package ceph

import "strings"

// Level is a kind of bucket in the CRUSH map above a host, and the label of Kubernetes'
// nodes that names it.
type Level struct{ Bucket, Label string }

// Levels are those that Cairn uses, the widest first.
var Levels = []Level{
	{"region", "topology.kubernetes.io/region"}, {"zone", "topology.kubernetes.io/zone"}, {"rack", "topology.cairn.storage/rack"},
}

// Location is where a node of Kubernetes is in the CRUSH map, below its root: type=name,
// separated by spaces.
func Location(node string, labels map[string]string) string {
	var location []string
	for _, level := range Levels {
		if value := labels[level.Label]; value != "" {
			location = append(location, level.Bucket+"="+Bucket(value))
		}
	}
	return strings.Join(append(location, "host="+Bucket(node)), " ")
}

// LevelLabel is the label of nodes that names their bucket of a kind; empty for
// kinds that no label names: osd and host.
func LevelLabel(kind string) string {
	for _, level := range Levels {
		if level.Bucket == kind {
			return level.Label
		}
	}
	return ""
}

// Bucket is a name as CRUSH takes it.
func Bucket(name string) string { return strings.ReplaceAll(name, ".", "-") }
