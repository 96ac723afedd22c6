package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/option"
	"github.com/cairn-storage/cairn/operator/daemonpod"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

// Options of the spec are checked against what the running mons know. What Ceph
// changes while daemons run is set in the mons' configuration database; the rest
// stands in ceph.conf, and daemons that read it when they start are restarted.
//
// Beside ceph.conf the ConfigMap keeps what the options are: the last good ones,
// while the spec has one that cannot be. An option is written there before the mons
// are told of it, and goes from there only when they have forgotten it, so that a
// crash between the two leaves none behind.

// options of a cluster's daemons, by section.
type options struct {
	// Live are in the configuration database, the others in ceph.conf.
	Live     map[string]v1alpha1.ConfigSection `json:"live,omitempty"`
	Start    map[string]v1alpha1.ConfigSection `json:"start,omitempty"`
	Creation map[string]v1alpha1.ConfigSection `json:"creation,omitempty"`
	// Leaving are those that are taken out of the configuration database.
	Leaving map[string][]string `json:"leaving,omitempty"`
	// Encrypted and Compressed are of spec.network.
	Encrypted  bool `json:"encrypted,omitempty"`
	Compressed bool `json:"compressed,omitempty"`
}

// recordKey of the ConfigMap has the options.
const recordKey = "options.json"

// SetOption sets an option in the mons' configuration database, or takes it out.
type SetOption struct {
	Who, Name, Value string
	Unset            bool
}

// observeRecord reads the ConfigMap from the server itself: an option that a cache does
// not show yet would be forgotten, and stay set for ever.
func (r *Reconciler) observeRecord(ctx context.Context, o *Observed) error {
	name, live := daemonpod.ConfigName(o.Cluster), &corev1.ConfigMap{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.Cluster.Namespace, Name: name}, live)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the options: %w", err)
	}
	if o.ConfigMaps[name] = live; err != nil {
		delete(o.ConfigMaps, name)
	}
	return nil
}

// recorded are the options that the live ConfigMap has; nil while it has none.
func (o *Observed) recorded() *options {
	live := o.ConfigMaps[daemonpod.ConfigName(o.Cluster)]
	if live == nil || live.Data[recordKey] == "" {
		return nil
	}
	record := &options{}
	if err := json.Unmarshal([]byte(live.Data[recordKey]), record); err != nil {
		return nil // changed by hand; it is put back
	}
	return record
}

// text of the options as the ConfigMap keeps them.
func (c *options) text() string {
	text, _ := json.Marshal(c) // maps of strings
	return string(text)
}

// add an option to those of its kind.
func add(to *map[string]v1alpha1.ConfigSection, section, name string, value v1alpha1.ConfigValue) {
	if *to == nil {
		*to = map[string]v1alpha1.ConfigSection{}
	}
	if (*to)[section] == nil {
		(*to)[section] = v1alpha1.ConfigSection{}
	}
	(*to)[section][name] = value
}

// each calls f for every option, in one order.
func each(config map[string]v1alpha1.ConfigSection, f func(section, name, value string)) {
	for _, section := range slices.Sorted(maps.Keys(config)) {
		for _, name := range slices.Sorted(maps.Keys(config[section])) {
			f(section, name, string(config[section][name]))
		}
	}
}

// askOptions asks the mons for the options that the spec names, and for what is set.
func (o *Observed) askOptions(ctx context.Context, conn ceph.Conn, asked *stored) error {
	config, record := o.Cluster.Spec.Ceph.Config, o.recorded()
	if len(config) == 0 && !o.networkChanges() && (record == nil || reflect.DeepEqual(*record, options{})) {
		return nil
	}
	set, err := conn.Config(ctx)
	if err != nil {
		return err
	}
	o.Ceph.Config, o.Ceph.Options = map[ceph.Setting]string{}, map[string]*ceph.Option{}
	for _, s := range set {
		key := ceph.Setting{Who: s.Who, Option: s.Option}
		o.Ceph.Config[key] = asked.as(o.Cluster, key, s.Value)
	}
	names := map[string]bool{}
	note := func(_, name, _ string) { names[name] = true }
	each(config, note)
	if record != nil {
		each(record.Live, note)
	}
	for name := range names {
		known, err := conn.Option(ctx, name)
		switch {
		case ceph.Is(err, ceph.NotFound):
			if o.Ceph.OptionNames, err = conn.OptionNames(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			o.Ceph.Options[name] = known
		}
	}
	return nil
}

// option that the running mons know, or before there are any the shipped release;
// nil when there is none.
func (o *Observed) option(name string) *ceph.Option {
	asked := o.Ceph != nil && o.Ceph.Options != nil
	known := option.Shipped(name)
	if asked {
		known = o.Ceph.Options[name]
	}
	switch {
	case known != nil:
		return known
	case option.OfMgrModule(name) && (o.Ceph == nil || o.Ceph.Status.ActiveMgr == ""), // it is known later
		!asked && o.Cluster.Spec.Ceph.Image != upgrade.Shipped && !slices.Contains(o.unknownToImage(), name):
		return &ceph.Option{Name: name, Type: "str", Effect: ceph.EffectRuntime}
	}
	return nil
}

// unknownToImage are the spec's options that the image said it does not know.
func (o *Observed) unknownToImage() []string {
	said, _ := upgrade.Answer(o.pod(upgrade.PodName(o.Cluster)))
	return upgrade.Unknown(said)
}

// desireOptions says what the options should be: the spec's, when all of them can be.
func (d *Desired) desireOptions(o *Observed) {
	live := o.recorded()
	if live != nil && (o.Ceph == nil || o.Ceph.Options == nil) {
		d.Options = live // they cannot be checked now
		return
	}
	wanted := &options{}
	each(o.Cluster.Spec.Ceph.Config, func(section, name, value string) {
		known := o.option(name)
		if why := o.wrong(known, section, name, value); why != "" {
			d.WrongOptions = append(d.WrongOptions, osd.Problem{Reason: v1alpha1.ReasonInvalidOption, Message: fmt.Sprintf("spec.ceph.config.%s.%s: %s", section, name, why)})
			return
		}
		to := &wanted.Start
		_, file := ownOptions[name]
		switch {
		case file && section == "global", strings.HasPrefix(known.Type, "addr"), known.Type == "uuid":
		case known.Effect == ceph.EffectRuntime, ofClients(section): // clients have no ceph.conf
			to = &wanted.Live
		case known.Effect == ceph.EffectCreation:
			to = &wanted.Creation
		}
		add(to, section, name, v1alpha1.ConfigValue(value))
	})
	switch {
	case len(d.WrongOptions) == 0 || live == nil && o.running():
	case live == nil:
		return // nothing has been made yet that must go on
	default:
		copied := *live
		wanted = &copied
	}
	wanted.Leaving = o.leavingOptions(live, wanted)
	d.Options = wanted
	d.desireNetwork(o, live)
}

// ofClients reports whether a section is read by clients alone.
func ofClients(section string) bool {
	return section == "client" || strings.HasPrefix(section, "client.")
}

// running reports whether the cluster has begun to be.
func (o *Observed) running() bool {
	return o.founded() != "" || o.Ceph != nil || len(o.Deployments) > 0
}

// leavingOptions are those that the mons were told and are no longer wanted.
func (o *Observed) leavingOptions(live, wanted *options) map[string][]string {
	if live == nil {
		return nil
	}
	leaving := map[string][]string{}
	note := func(section, name string) {
		if _, kept := wanted.Live[section][name]; kept || slices.Contains(leaving[section], name) {
			return
		}
		if o.Ceph != nil && o.Ceph.Config != nil {
			if _, set := o.Ceph.Config[ceph.Setting{Who: section, Option: name}]; !set {
				return
			}
		}
		leaving[section] = append(leaving[section], name)
	}
	each(live.Live, func(section, name, _ string) { note(section, name) })
	for _, section := range slices.Sorted(maps.Keys(live.Leaving)) {
		for _, name := range live.Leaving[section] {
			note(section, name)
		}
	}
	if len(leaving) == 0 {
		return nil
	}
	for _, names := range leaving {
		slices.Sort(names)
	}
	return leaving
}

// takenBack are options that OSDs take out of the configuration database themselves,
// unless their scheduler leaves recovery to be set by hand.
var takenBack = []string{"osd_max_backfills", "osd_recovery_max_active", "osd_recovery_max_active_hdd", "osd_recovery_max_active_ssd"}

// wrong says why an option cannot be as the spec has it, and what can.
func (o *Observed) wrong(known *ceph.Option, section, name, value string) string {
	if known == nil {
		names := option.Names()
		if o.Ceph != nil && o.Ceph.OptionNames != nil {
			names = slices.Compact(slices.Sorted(slices.Values(append(names, o.Ceph.OptionNames...))))
		}
		if near := option.Near(names, name); len(near) > 0 {
			return "Ceph has no such option; the nearest: " + strings.Join(near, ", ")
		}
		return "Ceph has no such option"
	}
	if err := option.Check(known, section, value); err != nil {
		return err.Error()
	}
	if slices.Contains(takenBack, name) && !o.byHand(section) {
		return "the OSDs' scheduler takes it back. Set osd_mclock_override_recovery_settings to true beside it"
	}
	return ""
}

// byHand reports whether the OSDs of a section let recovery be set by hand.
func (o *Observed) byHand(section string) bool {
	for _, at := range []string{section, "osd", "global"} {
		config := o.Cluster.Spec.Ceph.Config[at]
		if override, err := option.Normal(&ceph.Option{Type: "bool"}, string(config["osd_mclock_override_recovery_settings"])); err == nil && override == "true" || config["osd_op_queue"] == "wpq" {
			return true
		}
	}
	return false
}

// readAtStart marks each daemon with the options that it reads when it starts, as
// ceph.conf has them: one that is marked otherwise is restarted.
func (d *Desired) readAtStart(o *Observed) {
	record := d.inForce(o)
	for _, deployments := range [][]*appsv1.Deployment{d.MonDeployments, d.MgrDeployments, d.OSDDeployments} {
		for _, made := range deployments {
			kind := made.Labels[kube.LabelComponent]
			lines := record.ofNetwork(kind)
			each(record.Start, func(section, name, value string) {
				if section == "global" || section == kind || section == kind+"."+made.Labels[kube.LabelInstance] {
					lines = append(lines, section+"/"+name+"="+value)
				}
			})
			if len(lines) > 0 {
				metav1.SetMetaDataAnnotation(&made.Spec.Template.ObjectMeta, kube.AnnotationOptions, strings.Join(lines, "\n"))
			}
		}
	}
}

// whyRestart names the options for which a daemon is restarted.
func whyRestart(live, wanted *appsv1.Deployment) string {
	before := strings.Split(live.Spec.Template.Annotations[kube.AnnotationOptions], "\n")
	after := strings.Split(wanted.Spec.Template.Annotations[kube.AnnotationOptions], "\n")
	var changed []string
	for _, line := range append(without(before, after), without(after, before)...) {
		if name, _, _ := strings.Cut(line, "="); name != "" && !slices.Contains(changed, name) {
			changed = append(changed, name)
		}
	}
	if len(changed) == 0 && deployedKey(live) != deployedKey(wanted) {
		return fmt.Sprintf("it gets its key of generation %d, and the one before is refused", deployedKey(wanted))
	}
	if len(changed) == 0 {
		return "its spec changed"
	}
	return "it reads " + strings.Join(changed, ", ") + " when it starts"
}

// options are set once the ConfigMap has them.
func (p *planner) options() error {
	if p.o.Ceph == nil || p.d.Options == nil {
		return nil
	}
	gate := ""
	if record := p.o.recorded(); record == nil || record.text() != p.d.Options.text() {
		gate = "ConfigMap " + daemonpod.ConfigName(p.o.Cluster) + " has it"
	}
	set := func(verb, why string, o SetOption) {
		s := step("option-"+o.Who+"-"+o.Name, verb, why, gate)
		if option.OfMgrModule(o.Name) && p.o.Ceph.Status.ActiveMgr == "" && gate == "" {
			s.Gate = "a mgr is active"
		}
		s.SetOption = &o
		p.add(s)
	}
	each(p.d.Options.Live, func(section, name, value string) {
		now, ok := p.o.Ceph.Config[ceph.Setting{Who: section, Option: name}]
		known := p.o.option(name)
		if ok && (now == value || known != nil && option.Same(known, now, value)) {
			return
		}
		set(fmt.Sprintf("set %s of %s to %s; no daemon restarts", name, section, value), "spec.ceph.config asks for it", SetOption{Who: section, Name: name, Value: value})
	})
	for _, section := range slices.Sorted(maps.Keys(p.d.Options.Leaving)) {
		for _, name := range p.d.Options.Leaving[section] {
			if _, ok := p.o.Ceph.Config[ceph.Setting{Who: section, Option: name}]; ok {
				set(fmt.Sprintf("set %s of %s back to Ceph's default; no daemon restarts", name, section), "spec.ceph.config does not have it any more", SetOption{Who: section, Name: name, Unset: true})
			}
		}
	}
	return nil
}

// setOption tells the mons, and notes in which form they keep the value.
func (r *Reconciler) setOption(ctx context.Context, o *Observed, s SetOption) error {
	return r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error {
		if s.Unset {
			return conn.UnsetConfig(ctx, s.Who, s.Name)
		}
		if err := conn.SetConfig(ctx, s.Who, s.Name, s.Value); err != nil {
			return err
		}
		set, err := conn.Config(ctx)
		if err != nil {
			return err
		}
		for _, now := range set {
			if now.Who == s.Who && now.Option == s.Name {
				r.stored.note(o.Cluster, ceph.Setting{Who: s.Who, Option: s.Name}, form{asked: s.Value, stored: now.Value})
			}
		}
		return nil
	})
}

// set is what an option is, once a step has set it.
func (w *imagined) set(s SetOption) {
	config := maps.Clone(w.Ceph.Config)
	if config == nil {
		config = map[ceph.Setting]string{}
	}
	key := ceph.Setting{Who: s.Who, Option: s.Name}
	if config[key] = s.Value; s.Unset {
		delete(config, key)
	}
	w.Ceph.Config = config
}

// invalidOption reports the spec's options that Ceph cannot have.
func invalidOption(o *Observed, d *Desired, _ []Step) *v1alpha1.Blocker {
	if len(d.WrongOptions) == 0 {
		return nil
	}
	messages := make([]string, 0, len(d.WrongOptions))
	for _, problem := range d.WrongOptions {
		messages = append(messages, problem.Message)
	}
	meanwhile := "Until that is corrected the daemons keep the options that they have, and all other work goes on"
	if d.Options == nil {
		meanwhile = "Nothing is made before that is corrected"
	}
	return blocker(v1alpha1.ReasonInvalidOption, "%s. %s", strings.Join(messages, "; "), meanwhile)
}
