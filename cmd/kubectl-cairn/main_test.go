package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/tests/controlplane"
	"github.com/cairn-storage/cairn/tests/lab"
)

func TestMain(m *testing.M) { controlplane.Main(m) }

// desk is where a person works: kubectl, and a StorageCluster of theirs.
type desk struct {
	t       *testing.T
	client  client.Client
	kubectl *kubectl
	cluster *v1alpha1.StorageCluster
}

func newDesk(t *testing.T) *desk {
	config, c := controlplane.Start(t)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "desk-"}}
	require.NoError(t, c.Create(t.Context(), namespace))
	cluster := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "main"}}
	cluster.Spec.Approval = v1alpha1.ApprovalManual
	cluster.Spec.Storage.Nodes = []v1alpha1.StorageNode{{Name: "n1", Devices: []v1alpha1.StorageDevice{{Name: "disk1"}}}}
	require.NoError(t, c.Create(t.Context(), cluster))
	return &desk{t, c, &kubectl{namespace: namespace.Name, config: kubeconfig(t, config), program: filepath.Join(lab.KubernetesDir(), "kubectl")}, cluster}
}

func kubeconfig(t *testing.T, config *rest.Config) string {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"it": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"me": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"it": {Cluster: "it", AuthInfo: "me"}},
		CurrentContext: "it",
	}, path))
	return path
}

// planned has the operator say what is left to do.
func (d *desk) planned(steps ...v1alpha1.PlanStep) {
	d.cluster.Status = v1alpha1.StorageClusterStatus{ObservedGeneration: d.cluster.Generation, Plan: steps}
	require.NoError(d.t, d.client.Status().Update(d.t.Context(), d.cluster))
}

func (d *desk) run(input string, args ...string) (string, error) {
	k := *d.kubectl
	c := newCommand(&k)
	var out bytes.Buffer
	c.SetIn(strings.NewReader(input))
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(append(args, "--namespace", d.kubectl.namespace, "--kubeconfig", d.kubectl.config))
	err := c.ExecuteContext(d.t.Context())
	return out.String(), err
}

func (d *desk) approved(step string) bool {
	require.NoError(d.t, d.client.Get(d.t.Context(), client.ObjectKeyFromObject(d.cluster), d.cluster))
	return v1alpha1.Approved(d.cluster, step)
}

var (
	drain   = v1alpha1.PlanStep{Name: "osd-3-drain", What: "move the data of osd.3 elsewhere", Why: "the spec let go", Gate: "it is approved", Risk: v1alpha1.RiskMovesData, NeedsApproval: true}
	second  = v1alpha1.PlanStep{Name: "osd-4-drain", What: "move the data of osd.4 elsewhere", Why: "the spec let go", Risk: v1alpha1.RiskMovesData, NeedsApproval: true}
	restart = v1alpha1.PlanStep{Name: "mgr-a", What: "restart mgr-a", Why: "its spec changed", Risk: v1alpha1.RiskRestart}
)

func TestApproveShowsTheStepsAndApprovesThemOnAYes(t *testing.T) {
	d := newDesk(t)
	d.planned(restart, drain, second)
	out, err := d.run("n\n", "approve", "main")
	require.ErrorContains(t, err, "nothing was approved")
	require.False(t, d.approved("osd-3-drain"))
	require.Contains(t, out, "osd-3-drain  MovesData  move the data of osd.3 elsewhere")
	require.NotContains(t, out, "mgr-a")

	_, err = d.run("y\n", "approve", "main")
	require.NoError(t, err)
	require.True(t, d.approved("osd-3-drain"))
	require.True(t, d.approved("osd-4-drain"))
	require.False(t, d.approved("mgr-a"))
}

func TestApproveTakesTheStepsThatAreNamed(t *testing.T) {
	d := newDesk(t)
	d.planned(restart, drain, second)
	_, err := d.run("", "approve", "main", "osd-4-drain", "--yes")
	require.NoError(t, err)
	require.True(t, d.approved("osd-4-drain"))
	require.False(t, d.approved("osd-3-drain"))
	_, err = d.run("", "approve", "main", "osd-3-drain", "-y")
	require.NoError(t, err)
	require.True(t, d.approved("osd-4-drain"), "an approval adds to those before it")
	require.True(t, d.approved("osd-3-drain"))
	_, err = d.run("", "approve", "main", "osd-9-drain", "-y")
	require.ErrorContains(t, err, `no step "osd-9-drain" of main waits for approval`)
}

func TestApproveRefusesAPlanOfTheSpecBefore(t *testing.T) {
	d := newDesk(t)
	d.planned(drain)
	d.cluster.Spec.Mon.Count = 1
	require.NoError(t, d.client.Update(t.Context(), d.cluster))
	_, err := d.run("", "approve", "main", "-y")
	require.ErrorContains(t, err, "has not seen the last edit")
	require.False(t, d.approved("osd-3-drain"))
}

func TestApproveOfNothing(t *testing.T) {
	d := newDesk(t)
	d.planned(restart)
	out, err := d.run("", "approve", "main")
	require.NoError(t, err)
	require.Equal(t, "no step waits for approval\n", out)
	_, err = d.run("", "approve", "other")
	require.ErrorContains(t, err, `"other" not found`)
}

// echo has kubectl answer an exec with what was sent: no pod runs here.
func (d *desk) echo() {
	script := filepath.Join(d.t.TempDir(), "kubectl")
	text := "#!/bin/sh\nfor a in \"$@\"; do [ \"$a\" = exec ] && exec cat; done\nexec " + d.kubectl.program + " \"$@\"\n"
	require.NoError(d.t, os.WriteFile(script, []byte(text), 0o755))
	d.kubectl.program = script
}

// asked runs 'kubectl cairn plan' and returns the StorageClusters that the operator is asked about.
func (d *desk) asked(input string, args ...string) ([]v1alpha1.StorageCluster, error) {
	out, err := d.run(input, append([]string{"plan"}, args...)...)
	if err != nil {
		return nil, err
	}
	var list v1alpha1.StorageClusterList
	require.NoError(d.t, json.Unmarshal([]byte(out), &list), out)
	return list.Items, nil
}

const edited = `
kind: ConfigMap
apiVersion: v1
---
apiVersion: cairn.storage/v1alpha1
kind: StorageCluster
metadata: {name: main}
spec:
  mon: {count: 1}
  storage: {nodes: [{name: n1, devices: [{name: disk1}, {name: disk2}]}]}
`

func TestPlanAsksAboutTheSpecOfTheFileAsItWouldBeStored(t *testing.T) {
	d := newDesk(t)
	d.planned(drain)
	d.echo()
	asked, err := d.asked(edited, "-f", "-")
	require.NoError(t, err)
	require.Len(t, asked, 1)
	require.EqualValues(t, 1, asked[0].Spec.Mon.Count)
	require.EqualValues(t, 2, asked[0].Spec.Mgr.Count, "with its defaults")
	require.Len(t, asked[0].Spec.Storage.Nodes[0].Devices, 2)
	require.Equal(t, d.cluster.UID, asked[0].UID, "in place of the one that is there")
	require.Equal(t, d.cluster.Generation+1, asked[0].Generation, "so that no approval is for it")
	require.Equal(t, d.cluster.Status.Plan, asked[0].Status.Plan)

	var now v1alpha1.StorageCluster
	require.NoError(t, d.client.Get(t.Context(), client.ObjectKeyFromObject(d.cluster), &now))
	require.Equal(t, d.cluster.ResourceVersion, now.ResourceVersion, "nothing is written")
}

func TestPlanAsksAboutAClusterThatIsNotThereYet(t *testing.T) {
	d := newDesk(t)
	d.echo()
	asked, err := d.asked(strings.Replace(edited, "name: main", "name: other", 1), "-f", "-")
	require.NoError(t, err)
	require.Equal(t, "other", asked[0].Name)
	require.Equal(t, d.kubectl.namespace, asked[0].Namespace)
	require.Error(t, d.client.Get(t.Context(), client.ObjectKeyFromObject(&asked[0]), &v1alpha1.StorageCluster{}))
}

func TestPlanAsksAboutWhatIsLeftToDo(t *testing.T) {
	d := newDesk(t)
	d.echo()
	out, err := d.run("", "plan", "main")
	require.NoError(t, err)
	require.Contains(t, out, string(d.cluster.UID))
}

func TestPlanRefusesWhatTheAPIServerRefuses(t *testing.T) {
	d := newDesk(t)
	for name, c := range map[string]struct{ input, want string }{
		"a value that is not allowed":  {strings.Replace(edited, "count: 1", "count: 2", 1), "spec.mon.count: must be 1, 3 or 5"},
		"an edit that is not allowed":  {strings.Replace(edited, "spec:", "spec:\n  dataPath: /elsewhere", 1), "spec.dataPath: cannot be changed"},
		"another namespace":            {strings.Replace(edited, "{name: main}", "{name: main, namespace: other}", 1), "say --namespace other"},
		"a file with nothing of Cairn": {"kind: ConfigMap\napiVersion: v1\n", "holds no StorageCluster and no BlockPool"},
		"a file that is no YAML":       {"{", "read -"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := d.run(c.input, "plan", "-f", "-")
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := d.run("", "plan")
	require.ErrorContains(t, err, "name a file")
}
