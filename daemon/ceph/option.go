package ceph

// When a change of an option takes effect.
const (
	// EffectRuntime: at once; Ceph hands it to the daemons that run.
	EffectRuntime = "runtime"
	// EffectStart: when a daemon starts.
	EffectStart = "start"
	// EffectCreation: for daemons and clusters that are made from then on.
	EffectCreation = "creation"
)

// Option is what Ceph says of one of its options.
type Option struct {
	Name string
	// Type is int, uint, float, bool, str, size, secs, millisecs, uuid, addr or addrvec.
	Type string
	// Effect is one of the constants above.
	Effect string
	// Services are the kinds of daemons that read it; none means all.
	Services []string
	// Min and Max bound the value, in Ceph's own form; empty is no bound.
	Min, Max string
	// Values are all that it may be; none means any.
	Values []string
}

// Setting is one entry of the mons' configuration database.
type Setting struct {
	// Who is a section: global, osd, osd.3.
	Who, Option, Value string
}
