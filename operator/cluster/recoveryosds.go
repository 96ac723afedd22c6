package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// When no mon's store is left, one is made from the OSDs. Each of them has the OSD map
// up to the last that it heard of, and the history of that map is one line: the OSD
// with the newest knows all that the others do. So no store is carried from node to node:
//
//	the StorageCluster says that it is rebuilt
//	all daemons are stopped
//	a Job on every node sees that no mon has its store there, reads the maps of the
//	node's OSDs, keeps the newest, and tells which that is
//	the StorageCluster says which node has the newest, and which mon begins there
//	the other mons' Services are deleted
//	a Job on that node makes the mon's store: the maps, and all users with the keys that
//	they had, from the Secrets
//	the data paths of volumes are started again: their sessions were the old mons'
//	the StorageCluster says that it is done
//
// The mon keeps its address, so that clients find it.

// fromOSDs reports whether a quorum is rebuilt from the OSDs.
func fromOSDs(record *v1alpha1.MonRecoveryStatus) bool {
	return record != nil && record.From == v1alpha1.FromOSDs
}

// osdsRefusal says why the quorum is not rebuilt from the OSDs: while a mon's store may be
// where nobody can look, or an OSD that is not given up cannot be asked. Whether a store
// is there the Job on each node sees, and names it.
func (o *Observed) osdsRefusal() string {
	skip := o.skippedFor(nil)
	var open []string
	for _, node := range o.recoveryNodes(nil) {
		if found := o.node(node); (found == nil || !kube.NodeAnswers(found)) && !slices.Contains(skip, v1alpha1.NodeName(node)) {
			open = append(open, fmt.Sprintf("node %s (%s)", node, strings.Join(o.storesOn(node), ", ")))
		}
	}
	if len(open) > 0 {
		return fmt.Sprintf("every node with a mon or an OSD is ready. These are not, and what is in brackets may have its store there: %s. Bring them back; or, when they are gone for ever with their disks, name them in spec.mon.recovery.skipNodes", strings.Join(open, ", "))
	}
	if claims := o.unreadClaims(); len(claims) > 0 {
		return fmt.Sprintf("no OSD is on a claim, whose maps Cairn cannot read: %s. One of them may have the newest. Bring back the store of a mon, and rebuild the quorum from that; or give these OSDs up for ever, with all that they hold: name their indexes in spec.storage.claims[].skip, or set count to 0", strings.Join(claims, ", "))
	}
	if locked := o.unreadEncrypted(skip); len(locked) > 0 {
		return fmt.Sprintf("every encrypted OSD has its key. Those of these are gone: %s. One of them may have the newest map. Restore the Secrets from a backup; or give these OSDs up for ever, with all that they hold: take their devices out of spec.storage, and the disks of those that leave already out of their nodes", strings.Join(locked, ", "))
	}
	if len(o.recoveryOSDs("", skip)) == 0 {
		return "there is an OSD to rebuild it from"
	}
	return ""
}

// skippedFor are the nodes that are given up: those that are ready are not gone, and
// those with a store that is needed neither.
func (o *Observed) skippedFor(record *v1alpha1.MonRecoveryStatus) []v1alpha1.NodeName {
	asked := o.Cluster.Spec.Mon.Recovery
	if asked == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(asked.SkipNodes), func(name v1alpha1.NodeName) bool {
		node := o.node(string(name))
		return record != nil && string(name) == record.Node || node != nil && kube.NodeAnswers(node)
	})
}

// knownOSD is an OSD that may have maps.
type knownOSD struct {
	osd.Target
	id int
}

// dbPath of the device that has its database; empty when that is its own.
func (k knownOSD) dbPath() string {
	if k.DB == "" {
		return ""
	}
	return k.DBPath()
}

// keyDir is where the Job that reads the OSD has its key.
func (k knownOSD) keyDir() string { return fmt.Sprintf("/run/encryption/%d", k.id) }

// keyPath of the key with which its device is encrypted; empty when it is not.
func (k knownOSD) keyPath() string {
	if !k.Encrypted {
		return ""
	}
	return osd.EncryptionFile(k.keyDir())
}

// servedOSDs are the OSDs that have ever been up.
func (o *Observed) servedOSDs() (served []knownOSD) {
	for _, name := range slices.Sorted(maps.Keys(o.Secrets)) {
		secret := o.Secrets[name]
		if id, ok := osd.ID(secret); ok && secret.Annotations[kube.AnnotationUUID] != "" && osd.Formatted(secret) {
			served = append(served, knownOSD{osd.TargetOf(secret), id})
		}
	}
	return served
}

// recoveryOSDs are those that are read, on one node or (empty) on all that are not skipped.
func (o *Observed) recoveryOSDs(node string, skip []v1alpha1.NodeName) []knownOSD {
	return slices.DeleteFunc(o.servedOSDs(), func(known knownOSD) bool {
		return node != "" && known.Node != node || slices.Contains(skip, v1alpha1.NodeName(known.Node)) || known.Claim != "" || o.givenUp(known.UUID) || o.letGo(known.Target)
	})
}

// unreadClaims are the OSDs on claims that the spec asks for.
func (o *Observed) unreadClaims() (names []string) {
	for _, known := range o.servedOSDs() {
		if known.Claim != "" && !o.givenUp(known.UUID) && o.wantsClaim(known.Claim) {
			names = append(names, called(known.id, known.Target))
		}
	}
	return names
}

// unreadEncrypted are the OSDs whose disks cannot be read without the keys that are missing.
func (o *Observed) unreadEncrypted(skip []v1alpha1.NodeName) (names []string) {
	for _, known := range o.recoveryOSDs("", skip) {
		if o.lostEncryptionKey(known.Target) {
			names = append(names, fmt.Sprintf("%s: Secret %s has no encryption-key", called(known.id, known.Target), osd.SecretName(o.Cluster, known.UUID)))
		}
	}
	return names
}

// letGo reports whether a person gives up the OSD of a device by taking that out of the
// spec, under whatever name. An OSD that was leaving before has data still, and is given up
// only when its device is gone.
func (o *Observed) letGo(t osd.Target) bool {
	leaving := o.marked(t.UUID) && o.nodeWith(t) == t.Node
	return !leaving && osd.Left(o.Cluster.Spec.Storage, t, o.Inventory[t.Node], true) && !o.namedAnew(t)
}

// namedAnew reports whether the spec names the device of an OSD by another of its names.
func (o *Observed) namedAnew(t osd.Target) bool {
	for _, node := range o.Cluster.Spec.Storage.Nodes {
		if node.Name == t.Node && slices.ContainsFunc(node.Devices, func(d v1alpha1.StorageDevice) bool {
			device := osd.Find(o.Inventory[t.Node], d.Name)
			return device != nil && device.OSD != nil && device.OSD.UUID == t.UUID
		}) {
			return true
		}
	}
	return false
}

// unasked are the UUIDs of the OSDs that are given up because they are not read: one may
// know a newer map than the quorum that is made, so none ever starts again.
func (o *Observed) unasked(record *v1alpha1.MonRecoveryStatus) (uuids []string) {
	read := o.recoveryOSDs("", o.skippedFor(record))
	for _, known := range o.servedOSDs() {
		if !slices.ContainsFunc(read, func(r knownOSD) bool { return r.UUID == known.UUID }) {
			uuids = append(uuids, known.UUID)
		}
	}
	return uuids
}

// givenUp reports whether an OSD was given up when the quorum was rebuilt from others.
func (o *Observed) givenUp(uuid string) bool {
	secret := o.Secrets[osd.SecretName(o.Cluster, uuid)]
	return secret != nil && secret.Annotations[kube.AnnotationGivenUp] != ""
}

// giveUpOSDs has the Secrets of OSDs say that these were given up.
func (r *Reconciler) giveUpOSDs(ctx context.Context, o *Observed, record *v1alpha1.MonRecoveryStatus) error {
	for _, uuid := range record.GaveUpOSDs {
		secret := o.Secrets[osd.SecretName(o.Cluster, uuid)]
		if secret == nil || o.givenUp(uuid) {
			continue
		}
		before := secret.DeepCopy()
		metav1.SetMetaDataAnnotation(&secret.ObjectMeta, kube.AnnotationGivenUp, record.Backup)
		if err := r.Client.Patch(ctx, secret, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("write down that an OSD is given up: %w", err)
		}
	}
	return nil
}

// staysGivenUp has an OSD's Secret go on to say that it is given up, if it is. Such an OSD
// is not started; when the spec names its device the problem says so.
func (d *Desired) staysGivenUp(o *Observed, secret *corev1.Secret, known *ceph.OSD, t osd.Target, leaves bool) bool {
	if !o.givenUp(t.UUID) {
		return false
	}
	secret.Annotations[kube.AnnotationGivenUp] = o.Secrets[secret.Name].Annotations[kube.AnnotationGivenUp]
	if !leaves {
		d.Problems = append(d.Problems, osd.Problem{Reason: v1alpha1.ReasonOSDGivenUp, Message: fmt.Sprintf(
			"%s was given up when the quorum was rebuilt from the other OSDs, and never starts again: it may know another map than they do. Take it out of spec.storage; when it has left, wipe the device, and name it again to use it", called(known.ID, t))})
	}
	return true
}

// recoveryNodes are those on which mons had their stores, or OSDs have their disks.
func (o *Observed) recoveryNodes(skip []v1alpha1.NodeName) []string {
	nodes := map[string]bool{}
	for _, m := range o.Mons {
		nodes[m.Node] = true
	}
	for _, known := range o.recoveryOSDs("", skip) {
		nodes[known.Node] = true
	}
	maps.DeleteFunc(nodes, func(node string, _ bool) bool { return slices.Contains(skip, v1alpha1.NodeName(node)) })
	return slices.Sorted(maps.Keys(nodes))
}

// storesOn names the mons and OSDs of a node.
func (o *Observed) storesOn(node string) (stores []string) {
	for _, m := range o.Mons {
		if m.Node == node {
			stores = append(stores, "mon "+m.Name)
		}
	}
	for _, known := range o.recoveryOSDs(node, nil) {
		stores = append(stores, fmt.Sprintf("osd.%d", known.id))
	}
	return stores
}

// beginFromOSDs is what a rebuilding from the OSDs begins with.
func (o *Observed) beginFromOSDs() Step {
	what := "rebuild the quorum from the OSDs, with all daemons stopped, and give up the stores of mon " + listOf(names(o.Mons))
	for _, node := range o.skippedFor(nil) {
		what += fmt.Sprintf("; and %s of node %s", listOf(o.storesOn(string(node))), node)
	}
	return step("recovery", what, "spec.mon.recovery asks for it: what no OSD knows is lost", o.refusal())
}

// newFromOSDs is the record that a rebuilding from the OSDs begins with. No mon is newer
// than the first one's Ceph, and no OSD than the mons'.
func (o *Observed) newFromOSDs(image string) *v1alpha1.MonRecoveryStatus {
	for _, m := range o.Mons {
		if live := o.Deployments[mon.ObjectName(o.Cluster, m.Name)]; live != nil {
			image = imageOf(live)
			break
		}
	}
	return &v1alpha1.MonRecoveryStatus{From: v1alpha1.FromOSDs, LostSince: o.Cluster.Spec.Mon.Recovery.LostSince, Image: image,
		Began: metav1.NewTime(o.Now), Backup: "collected-" + o.Now.UTC().Format("20060102T150405Z")}
}

// osdsPlan is what is left of a rebuilding from the OSDs that is under way.
func (o *Observed) osdsPlan(record *v1alpha1.MonRecoveryStatus, image string) []Step {
	steps := o.stopAll(record)
	gate := ""
	if len(steps) > 0 {
		gate = "all daemons have stopped"
	}
	if record.Mon == "" {
		steps = append(steps, o.collectSteps(record, image, gate)...)
		return append(steps, o.laterSteps(record, "it is known which node has the newest maps")...)
	}
	if m := o.mon(record.Mon); m != nil && (len(o.Mons) > 1 || !o.placed(record)) {
		s := step("recovery-forget", fmt.Sprintf("give up mon %s: delete their Services; mon %s begins on node %s; from here on there is no way back", listOf(names(o.monsBut(record.Mon))), record.Mon, record.Node),
			"no mon with another map may ever start again", gate)
		s.Recovery = forgetMons
		steps, gate = append(steps, s), cmp.Or(gate, "the other mons are given up")
	}
	want := o.foundJob(record, image)
	s := step("recovery-found", fmt.Sprintf("make the store of mon %s from what OSDs know up to OSD map %d, with all users and their keys, on node %s", record.Mon, record.Epoch, record.Node), "a quorum of one mon begins with it", gate)
	s, made := o.byJob(s, want, record.Node)
	if !made {
		s.Gate = o.orAnew(record, s)
		if len(s.Create) > 0 {
			s.Create = append([]client.Object{o.recoveryKeys(record)}, s.Create...)
		}
		return append(append(steps, s), o.laterSteps(record, cmp.Or(gate, "its store is made"))...)
	}
	return append(steps, o.laterSteps(record, gate)...)
}

// laterSteps are those that come last.
func (o *Observed) laterSteps(record *v1alpha1.MonRecoveryStatus, gate string) (steps []Step) {
	if len(o.dataPaths) > 0 {
		s := step("recovery-reconnect", fmt.Sprintf("start %d data paths of volumes again, with nothing lost", len(o.dataPaths)), "their sessions were those of mons that are no more", gate)
		s.Recovery, s.Risk = reconnectVolumes, v1alpha1.RiskRestart
		steps, gate = append(steps, s), cmp.Or(gate, "volumes can connect again")
	}
	s := step("recovery-finish", "write down that the quorum is rebuilt", "then "+beginner(record)+" starts, OSDs start, and other mons join", gate)
	s.Recovery, s.Risk = finishRecovery, v1alpha1.RiskNone
	return append(steps, s)
}

// beginner is the mon that a rebuilt quorum begins with.
func beginner(record *v1alpha1.MonRecoveryStatus) string {
	if !fromOSDs(record) {
		return "mon " + record.From
	}
	if record.Mon == "" {
		return "a mon"
	}
	return "mon " + record.Mon
}

// stopAll are the steps until no daemon runs.
func (o *Observed) stopAll(record *v1alpha1.MonRecoveryStatus) []Step {
	s := stopping{Observed: o, skip: o.skippedFor(record), all: "stop all daemons", why: "two quorums must never be, and the disks of OSDs that run cannot be read", skipField: "spec.mon.recovery.skipNodes: its mons and OSDs are given up then, and must never run again"}
	steps := s.stop("")
	for i := range steps {
		steps[i].Risk = v1alpha1.RiskNone // there is no quorum, and nothing is served
	}
	return steps
}

// collected is what the Job of a node says that it found.
type collected struct {
	node        string
	First, Last int64
}

// collectSteps read the maps on every node, and choose the node to begin on.
func (o *Observed) collectSteps(record *v1alpha1.MonRecoveryStatus, image, gate string) (steps []Step) {
	skip := o.skippedFor(record)
	waiting := false
	for _, node := range o.recoveryNodes(skip) {
		s := step("recovery-collect-"+node, fmt.Sprintf("see that no mon has its store on node %s, and read the OSD maps of %s there", node, listOf(osdNames(o.recoveryOSDs(node, skip)))), "the quorum is rebuilt from the newest map", gate)
		want := o.collectJob(record, image, node, o.recoveryOSDs(node, skip))
		if job := o.Jobs[want.Name]; job != nil && !sameWork(job, want) {
			s = o.endJob(s.Name, job, "other OSDs are to be read on node "+node+" than it was made for")
			s.Gate = cmp.Or(s.Gate, gate)
			steps, waiting = append(steps, s), true
			continue
		}
		s, done := o.byJob(s, want, node)
		if done && o.report(want.Name, node) == nil {
			s, done = o.endJob(s.Name, o.Jobs[want.Name], "what it said is gone: the maps on node "+node+" are read again"), false
			s.Gate = cmp.Or(s.Gate, gate)
		}
		if !done {
			steps, waiting = append(steps, s), true
		}
	}
	if waiting {
		gate = cmp.Or(gate, "the maps of all OSDs are read")
	}
	s := step("recovery-choose", "write down which node has the newest map, and which mon begins there", "OSDs with newer maps than the mons' could not take part", gate)
	s.Recovery, s.Risk = chooseStore, v1alpha1.RiskNone
	if gate == "" {
		best := o.newest(record)
		if best == nil {
			s.Gate = "an OSD has maps"
			return append(steps, s)
		}
		s.What = fmt.Sprintf("write down that node %s has the newest map, %d, and that mon %s begins there", best.node, best.Last, o.founder(best.node))
	}
	return append(steps, s)
}

func osdNames(osds []knownOSD) (names []string) {
	for _, known := range osds {
		names = append(names, fmt.Sprintf("osd.%d", known.id))
	}
	return names
}

// sameWork reports whether a Job does what is wanted of it now.
func sameWork(job, want *batchv1.Job) bool {
	return slices.Equal(job.Spec.Template.Spec.Containers[0].Command, want.Spec.Template.Spec.Containers[0].Command)
}

// newest of what was found: the newest map, and of nodes with the same that with a mon,
// then that with more of the older ones.
func (o *Observed) newest(record *v1alpha1.MonRecoveryStatus) *collected {
	var found []collected
	for _, node := range o.recoveryNodes(o.skippedFor(record)) {
		if seen := o.report(o.collectJobName(record, node), node); seen != nil && seen.Last > 0 {
			found = append(found, *seen)
		}
	}
	if len(found) == 0 {
		return nil
	}
	best := slices.MinFunc(found, func(a, b collected) int {
		return cmp.Or(-cmp.Compare(a.Last, b.Last), cmp.Compare(o.hasMon(b.node), o.hasMon(a.node)), cmp.Compare(a.First, b.First), strings.Compare(a.node, b.node))
	})
	return &best
}

func (o *Observed) hasMon(node string) int {
	if slices.ContainsFunc(o.Mons, func(m mon.Mon) bool { return m.Node == node }) {
		return 1
	}
	return 0
}

// founder is the mon that begins on a node: the one that was there, or the first.
func (o *Observed) founder(node string) string {
	for _, m := range o.Mons {
		if m.Node == node {
			return m.Name
		}
	}
	return o.Mons[0].Name
}

// report is what the pod of a Job said; nil when it is not known.
func (o *Observed) report(job, node string) *collected {
	for i := range o.Pods {
		pod := &o.Pods[i]
		if pod.Labels[kube.LabelComponent] != recoveryComponent || o.Jobs[job] == nil || pod.Labels[kube.LabelInstance] != o.Jobs[job].Labels[kube.LabelInstance] {
			continue
		}
		for _, c := range pod.Status.ContainerStatuses {
			found := &collected{node: node}
			if end := c.State.Terminated; end != nil && end.ExitCode == 0 && json.Unmarshal([]byte(end.Message), found) == nil {
				return found
			}
		}
	}
	return nil
}

// chosen is the record once it is known where the newest maps are.
func (o *Observed) chosen() *v1alpha1.MonRecoveryStatus {
	record := recovering(o.Cluster)
	if best := o.newest(record); best != nil {
		record.Node, record.Epoch, record.Mon = best.node, best.Last, o.founder(best.node)
		record.GaveUp, record.GaveUpOSDs = append(record.GaveUp, names(o.monsBut(record.Mon))...), o.unasked(record)
	}
	return record
}

// placeFounder writes down on which node the mon begins.
func (r *Reconciler) placeFounder(ctx context.Context, o *Observed, record *v1alpha1.MonRecoveryStatus) error {
	return kube.Apply(ctx, r.Client, o.founderService(record))
}

func (o *Observed) founderService(record *v1alpha1.MonRecoveryStatus) *corev1.Service {
	return mon.Service(o.Cluster, o.Keys.FSID, o.founderOf(record))
}

// founderOf is the mon that begins, as its Service records it. It gets its store before it
// starts, and never begins without one. On the host network it has an address of its node.
func (o *Observed) founderOf(record *v1alpha1.MonRecoveryStatus) mon.Mon {
	m := *o.mon(record.Mon)
	m.Node, m.Founders, m.Joined = record.Node, []string{m.Name}, true
	if addresses := o.nodeAddresses(m.Node); mon.OnHost(o.Cluster) && len(addresses) > 0 && !slices.Contains(addresses, m.Address) {
		m.Address = addresses[0]
	}
	return m
}

// placed reports whether it is written down where the mon begins.
func (o *Observed) placed(record *v1alpha1.MonRecoveryStatus) bool {
	is, want := o.mon(record.Mon), o.founderOf(record)
	return is.Node == want.Node && is.Address == want.Address && is.Joined
}

// reconnect ends the data paths that were started before the rebuilding began. They do
// not write back what they have: the next ones carry it out.
func (r *Reconciler) reconnect(ctx context.Context, o *Observed) error {
	for i := range o.dataPaths {
		if err := r.delete(ctx, &o.dataPaths[i], client.GracePeriodSeconds(1)); err != nil {
			return err
		}
	}
	return nil
}

// observeDataPaths reads which data paths of volumes have sessions of the old mons.
func (r *Reconciler) observeDataPaths(ctx context.Context, o *Observed) error {
	record := recovering(o.Cluster)
	if !fromOSDs(record) {
		return nil
	}
	var pods corev1.PodList
	if err := r.Live.List(ctx, &pods, client.InNamespace(o.Cluster.Namespace), client.MatchingLabels{kube.LabelComponent: csidriver.Component, kube.LabelInstance: csidriver.AttachName}); err != nil {
		return fmt.Errorf("list the data paths of volumes: %w", err)
	}
	o.dataPaths = slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool {
		return pod.DeletionTimestamp != nil || !pod.CreationTimestamp.Before(&record.Began)
	})
	return nil
}

// recoveryKeys are all users of the cluster with the keys with which they start again. An
// OSD that is given up is none of them, so that it cannot come back.
func (o *Observed) recoveryKeys(record *v1alpha1.MonRecoveryStatus) *corev1.Secret {
	keyring := o.Keys.latest().keyring(slices.Sorted(maps.Keys(founders()))...)
	for _, name := range slices.Sorted(maps.Keys(o.Secrets)) {
		secret := o.Secrets[name]
		access := csidriver.ReadAccess(secret)
		if uuid := secret.Annotations[kube.AnnotationUUID]; slices.Contains(record.GaveUpOSDs, uuid) {
			continue
		} else if id, ok := osd.ID(secret); ok && uuid != "" {
			key := cmp.Or(osdKeys(secret).Next, ceph.Key(secret.Data["key"]))
			keyring = fmt.Appendf(keyring, "[osd.%d]\nkey = %s\ncaps mgr = \"allow profile osd\"\ncaps mon = \"allow profile osd\"\ncaps osd = \"allow *\"\n", id, key.Reveal())
		} else if access.User != "" && access.Caps != "" {
			caps := access.UserCaps()
			keyring = fmt.Appendf(keyring, "[client.%s]\nkey = %s\ncaps mon = %q\ncaps osd = %q\n", access.User, access.Key.Reveal(), caps["mon"], caps["osd"])
		}
	}
	return &corev1.Secret{
		ObjectMeta: kube.Meta(o.Cluster, o.recoveryKeysName(record), recoveryComponent, ""), Type: "cairn.storage/keyring",
		Data: map[string][]byte{"keyring": keyring, "mon": o.Keys.keyring("mon.")},
	}
}

func (o *Observed) recoveryKeysName(record *v1alpha1.MonRecoveryStatus) string {
	return fmt.Sprintf("%s-mon-%s", o.Cluster.Name, o.recoveryInstance(record, "keys"))
}

func (o *Observed) collectJobName(record *v1alpha1.MonRecoveryStatus, node string) string {
	return fmt.Sprintf("%s-mon-%s", o.Cluster.Name, o.recoveryInstance(record, "collect", node))
}

// reportPath is where a Job says what it found.
const reportPath = corev1.TerminationMessagePathDefault

// collectJob reads the maps of a node's OSDs.
func (o *Observed) collectJob(record *v1alpha1.MonRecoveryStatus, image, node string, osds []knownOSD) *batchv1.Job {
	args := []string{"collect", "--work-dir", "/tmp", "--report", reportPath}
	for _, m := range append(names(o.Mons), record.GaveUp...) {
		args = append(args, "--mon", m)
	}
	for _, known := range osds {
		args = append(args, "--osd", fmt.Sprintf("%d,%s,%s,%s,%s", known.id, known.UUID, known.Path(), known.dbPath(), known.keyPath()))
	}
	job := o.mapsJob(record, image, node, o.recoveryInstance(record, "collect", node), args)
	pod := &job.Spec.Template.Spec
	for name, dir := range map[string]string{"dev": "/dev", "udev": "/run/udev"} {
		pod.Volumes = append(pod.Volumes, hostPath(name, dir, corev1.HostPathUnset))
		pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: dir})
	}
	slices.SortFunc(pod.Volumes, func(a, b corev1.Volume) int { return strings.Compare(a.Name, b.Name) })
	for _, known := range osds {
		if known.Encrypted {
			volume := osd.EncryptionVolume(o.Cluster, known.UUID, fmt.Sprintf("encryption-%d", known.id))
			pod.Volumes = append(pod.Volumes, volume)
			pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: volume.Name, MountPath: known.keyDir(), ReadOnly: true})
		}
	}
	pod.Containers[0].SecurityContext = privileged()
	return job
}

// foundJob makes the store of the mon that begins.
func (o *Observed) foundJob(record *v1alpha1.MonRecoveryStatus, image string) *batchv1.Job {
	const keys = "/run/keys"
	job := o.mapsJob(record, image, record.Node, o.recoveryInstance(record, "found"), []string{"found", "--mon", record.Mon, "--endpoint", o.mon(record.Mon).Endpoint(),
		"--epoch", strconv.FormatInt(record.Epoch, 10), "--keys", keys})
	pod := &job.Spec.Template.Spec
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: o.recoveryKeysName(record)}}})
	pod.Containers[0].VolumeMounts = append(pod.Containers[0].VolumeMounts, corev1.VolumeMount{Name: "keys", MountPath: keys})
	return job
}

// mapsJob runs cairn-daemon on the stores of a node.
func (o *Observed) mapsJob(record *v1alpha1.MonRecoveryStatus, image, node, instance string, args []string) *batchv1.Job {
	stores := path.Join(o.Cluster.Spec.DataPath, o.Cluster.Namespace, o.Cluster.Name)
	command := append([]string{"/cairn/cairn-daemon", "mon"}, args...)
	return o.jobOn(record, image, node, instance, append(command, "--dir", stores, "--name", record.Backup, "--fsid", o.Keys.FSID))
}
