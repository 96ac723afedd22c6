package disk

import (
	"fmt"
	"strings"
)

// maxText bounds every text that comes from a device.
const maxText = 128

// printable makes a text from a device fit to be shown: printable ASCII, at
// most limit bytes, no space around it.
func printable(text string, limit int) string {
	var b strings.Builder
	for _, r := range strings.TrimSpace(text) {
		if b.Len() == limit {
			break
		}
		if r < ' ' || r > '~' {
			r = '?'
		}
		b.WriteRune(r)
	}
	return strings.TrimSpace(b.String())
}

// Size prints bytes for people: 10Gi, 3.6Ti.
func Size(bytes int64) string {
	value, unit := float64(bytes), ""
	for _, next := range []string{"Ki", "Mi", "Gi", "Ti", "Pi"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + unit
}
