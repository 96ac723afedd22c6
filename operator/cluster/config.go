package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/daemonpod"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// configMap holds the ceph.conf of the cluster's daemons: how to reach the
// mons, and the options of the spec.
func configMap(cluster *v1alpha1.StorageCluster, fsid string, mons []mon.Mon, config *options) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: kube.Meta(cluster, daemonpod.ConfigName(cluster), "config", ""),
		Data: map[string]string{
			"ceph.conf": cephConf(fsid, mon.Host(mons), config.Start, config.Creation, config.network()),
			// An OSD that is being made cannot ask the mons.
			"new-osd.conf": cephConf(fsid, mon.Host(mons), config.Start, config.Creation, config.Live, config.network()),
			recordKey:      config.text(),
		},
	}
}

// ownOptions are Cairn's in ceph.conf. The spec may have them otherwise.
var ownOptions = map[string]string{
	"log_to_stderr": "true", "err_to_stderr": "true", "log_to_file": "false", "log_file": "",
	"mon_cluster_log_to_file": "false", "mon_cluster_log_to_stderr": "true",
	// Only Tentacle's and later clients, which prove who they are, may reconnect.
	"auth_allow_insecure_global_id_reclaim": "false",
}

// cephConf renders ceph.conf in one order, so that it changes only when its content does.
func cephConf(fsid, monHost string, configs ...map[string]v1alpha1.ConfigSection) string {
	sections := map[string]map[string]string{"global": maps.Clone(ownOptions)}
	sections["global"]["fsid"], sections["global"]["mon_host"] = fsid, monHost
	for _, config := range configs {
		each(config, func(section, name, value string) {
			if sections[section] == nil {
				sections[section] = map[string]string{}
			}
			sections[section][name] = value
		})
	}
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(sections)) {
		fmt.Fprintf(&text, "[%s]\n", name)
		for _, option := range slices.Sorted(maps.Keys(sections[name])) {
			fmt.Fprintf(&text, "%s = %s\n", option, sections[name][option])
		}
	}
	return text.String()
}
