package lab

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Status writes what there is and how it fares.
func Status(ctx context.Context, w io.Writer) error {
	options, err := loadOptions()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range controlParts {
		state := "down"
		if pid, ok := livePid(name); ok {
			state = fmt.Sprintf("running (%d)", pid)
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\n", name, state)
	}
	ready, err := readyNodes(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(table, "API\t%v\n", err)
	}
	for index := 1; index <= options.Nodes; index++ {
		node := nodeAt(index)
		disks, err := node.Disks()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", node.Name, nodeAddress(index), node.state(ready), describeDisks(disks))
	}
	_, _ = fmt.Fprintf(table, "kubeconfig\t%s\n", Kubeconfig())
	return table.Flush()
}

func (n *Node) state(ready map[string]bool) string {
	states := []string{"NotReady"}
	if ready[n.Name] {
		states[0] = "Ready"
	}
	if _, ok := n.initPid(); !ok {
		states = append(states, "killed")
	}
	if frozen(n.Name) {
		states = append(states, "frozen")
	}
	if n.isCut() {
		states = append(states, "cut")
	}
	return strings.Join(states, ",")
}

func describeDisks(disks []Disk) string {
	texts := make([]string, 0, len(disks))
	for _, disk := range disks {
		size := fmt.Sprintf("%dMi", disk.Size>>20)
		if disk.Failed {
			size = "failed"
		}
		texts = append(texts, fmt.Sprintf("%s=%s (%s)", disk.Name, disk.Device, size))
	}
	return strings.Join(texts, " ")
}
