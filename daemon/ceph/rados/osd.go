package rados

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// osdTreeAnswer is the part of `osd tree` that Cairn reads: buckets and OSDs in one list.
type osdTreeAnswer struct {
	Nodes []struct {
		ID       int     `json:"id"`
		Name     string  `json:"name"`
		Type     string  `json:"type"`
		Class    string  `json:"device_class"`
		Weight   float64 `json:"crush_weight"`
		Children []int   `json:"children"`
	} `json:"nodes"`
}

type osdDumpAnswer struct {
	OSDs []struct {
		OSD   int      `json:"osd"`
		UUID  string   `json:"uuid"`
		Up    int      `json:"up"`
		In    int      `json:"in"`
		State []string `json:"state"`
	} `json:"osds"`
	// NodeFlags are the flags that hold for a bucket: node1 → [noout].
	NodeFlags map[string][]string `json:"crush_node_flags"`
}

// OSDs returns every OSD that the OSD map knows (docs.ceph.com, "Monitoring OSDs").
func (c *conn) OSDs(ctx context.Context) ([]ceph.OSD, error) {
	var dump osdDumpAnswer
	if err := c.ask(ctx, command{"prefix": "osd dump"}, &dump); err != nil {
		return nil, err
	}
	var tree osdTreeAnswer
	if err := c.ask(ctx, command{"prefix": "osd tree"}, &tree); err != nil {
		return nil, err
	}
	osds := osdsOf(&dump, &tree)
	c.addSizes(ctx, osds)
	return osds, nil
}

// patience is how long the mgr has for what the mons can be asked without.
const patience = 5 * time.Second

// addSizes adds what the OSDs have told the mgr of their devices. Without a mgr that answers,
// or the right to ask it, they stay zero: not known.
func (c *conn) addSizes(ctx context.Context, osds []ceph.OSD) {
	var mgr struct {
		Available bool `json:"available"`
	}
	if c.ask(ctx, command{"prefix": "mgr stat"}, &mgr) != nil || !mgr.Available {
		return
	}
	var df struct {
		Nodes []struct {
			ID     int   `json:"id"`
			KB     int64 `json:"kb"`
			KBUsed int64 `json:"kb_used"`
		} `json:"nodes"`
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if refused, err := c.askMgr(ctx, command{"prefix": "osd df"}, &df); err != nil || refused != "" {
		return
	}
	at := make(map[int]int, len(osds))
	for i := range osds {
		at[osds[i].ID] = i
	}
	for _, node := range df.Nodes {
		if i, ok := at[node.ID]; ok {
			osds[i].BytesTotal, osds[i].BytesUsed = node.KB<<10, node.KBUsed<<10
		}
	}
}

func osdsOf(dump *osdDumpAnswer, tree *osdTreeAnswer) []ceph.OSD {
	hostOf := map[int]string{}
	for _, node := range tree.Nodes {
		if node.Type != "host" {
			continue
		}
		for _, child := range node.Children {
			hostOf[child] = node.Name
		}
	}
	osds := make([]ceph.OSD, 0, len(dump.OSDs))
	at := map[int]int{}
	for _, entry := range dump.OSDs {
		at[entry.OSD] = len(osds)
		osds = append(osds, ceph.OSD{ID: entry.OSD, UUID: entry.UUID, Up: entry.Up == 1, In: entry.In == 1,
			Destroyed: slices.Contains(entry.State, "destroyed"), New: slices.Contains(entry.State, "new"),
			Host: hostOf[entry.OSD], NoOut: slices.Contains(dump.NodeFlags[hostOf[entry.OSD]], "noout")})
	}
	for _, node := range tree.Nodes {
		if i, ok := at[node.ID]; ok && node.Type == "osd" {
			osds[i].Class, osds[i].Weight = node.Class, node.Weight
		}
	}
	return osds
}

// NewOSD returns the ID of the OSD with this UUID (docs.ceph.com, "Adding OSDs").
func (c *conn) NewOSD(ctx context.Context, uuid string, key ceph.Key, class string) (int, error) {
	secrets := map[string]string{"cephx_secret": key.Reveal()}
	if class != "" {
		secrets["crush_device_class"] = class
	}
	return c.osdNew(ctx, command{"prefix": "osd new", "uuid": uuid}, secrets)
}

func (c *conn) osdNew(ctx context.Context, cmd command, secrets map[string]string) (int, error) {
	input, err := json.Marshal(secrets)
	if err != nil {
		return 0, ceph.Errorf(ceph.Invalid, "osd new", "encode the key: %w", err)
	}
	out, err := c.mon(ctx, cmd, input)
	if err != nil {
		return 0, err
	}
	var answer struct {
		OSDID int `json:"osdid"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return 0, ceph.Errorf(ceph.Unexpected, "osd new", "decode the answer: %w", err)
	}
	return answer.OSDID, nil
}

// SetOSDOut takes an OSD out of data placement, or back in.
func (c *conn) SetOSDOut(ctx context.Context, id int, out bool) error {
	prefix := "osd in"
	if out {
		prefix = "osd out"
	}
	return c.tell(ctx, command{"prefix": prefix, "ids": []string{strconv.Itoa(id)}})
}

// SetOSDWeight sets a weight, which Ceph keeps in parts of 1/65536.
func (c *conn) SetOSDWeight(ctx context.Context, id int, weight float64) error {
	return c.tell(ctx, command{"prefix": "osd crush reweight", "name": "osd." + strconv.Itoa(id), "weight": weight})
}

// StillNeeded asks the mgr, which knows the PGs (docs.ceph.com, "Removing OSDs").
func (c *conn) StillNeeded(ctx context.Context, id int) (string, error) {
	return c.mgr(ctx, command{"prefix": "osd safe-to-destroy", "ids": []string{strconv.Itoa(id)}})
}

// PurgeOSD has the mgr purge an OSD, which looks first whether that is safe: it does
// so only without yes_i_really_mean_it, which it takes for --force.
func (c *conn) PurgeOSD(ctx context.Context, id int) error {
	return c.end(ctx, command{"prefix": "osd purge", "id": id})
}

// end has the mgr end an OSD; none is fine.
func (c *conn) end(ctx context.Context, cmd command) error {
	op, _ := cmd["prefix"].(string)
	refused, err := c.mgr(ctx, cmd)
	switch {
	case ceph.Is(err, ceph.NotFound):
		return nil
	case refused != "":
		return ceph.Errorf(ceph.Busy, op, "%s", refused)
	}
	return err
}

// NotOKToStop asks the mgr, which knows the PGs (docs.ceph.com, "Operating a cluster").
func (c *conn) NotOKToStop(ctx context.Context, ids []int) (string, error) {
	if len(ids) == 0 {
		return "", nil
	}
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, strconv.Itoa(id))
	}
	return c.mgr(ctx, command{"prefix": "osd ok-to-stop", "ids": names})
}

// SetNoOut sets or unsets the flag noout of a host. The mons take the name of an
// OSD or of a device class as well, so it is looked up first.
func (c *conn) SetNoOut(ctx context.Context, host string, on bool) error {
	prefix := "osd unset-group"
	if on {
		prefix = "osd set-group"
	}
	var tree osdTreeAnswer
	if err := c.ask(ctx, command{"prefix": "osd tree"}, &tree); err != nil {
		return err
	}
	for _, node := range tree.Nodes {
		if node.Type == "host" && node.Name == host {
			return c.tell(ctx, command{"prefix": prefix, "flags": "noout", "who": []string{host}})
		}
	}
	return ceph.Errorf(ceph.NotFound, prefix, "no host %s in the CRUSH map", host)
}

// RemoveMon takes a mon out of the monmap; none is fine.
func (c *conn) RemoveMon(ctx context.Context, name string) error {
	err := c.tell(ctx, command{"prefix": "mon rm", "name": name})
	if ceph.Is(err, ceph.NotFound) {
		return nil
	}
	return err
}

// SetConfig sets an option in the mons' configuration database.
func (c *conn) SetConfig(ctx context.Context, who, option, value string) error {
	return c.tell(ctx, command{"prefix": "config set", "who": who, "name": option, "value": value})
}
