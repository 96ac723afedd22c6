package crash

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// What a server reaches beyond its process goes through proxies: a new field of
// one that is an interface has to be noted here, and proxied.
func TestAllIsProxied(t *testing.T) {
	proxied := map[reflect.Type]any{
		reflect.TypeFor[ceph.Connector]():     connector{},
		reflect.TypeFor[attach.Attacher]():    attacher{},
		reflect.TypeFor[host.Host]():          machine{},
		reflect.TypeFor[connections.Source](): source{},
		reflect.TypeFor[controller.Nodes]():   nodes{},
		reflect.TypeFor[controller.Volumes](): volumes{},
		reflect.TypeFor[places.Source]():      everywhere{},
		reflect.TypeFor[controller.Keys]():    keys{},
		reflect.TypeFor[node.Keys]():          opener{},
		reflect.TypeFor[attach.Renewer]():     kernel{},
		reflect.TypeFor[node.Labels]():        labels(nil),
	}
	// Clusters run calls over connections, which a proxied connector makes.
	proxied[reflect.TypeFor[controller.Clusters]()] = (*connections.Manager)(nil)
	proxied[reflect.TypeFor[node.Clusters]()] = (*connections.Manager)(nil)
	for _, server := range []reflect.Type{reflect.TypeFor[controller.Server](), reflect.TypeFor[node.Server]()} {
		for i := range server.NumField() {
			f := server.Field(i)
			if f.IsExported() && !f.Anonymous && (f.Type.Kind() == reflect.Interface || f.Type.Kind() == reflect.Func) {
				require.Contains(t, proxied, f.Type, "%s.%s is not proxied: add it to ./generate, and to the world", server, f.Name)
			}
		}
	}
}
