package state

import "strings"

// Difference has the lines that only one of two texts has.
func Difference(got, want string) string {
	count := map[string]int{}
	for _, line := range strings.Split(got, "\n") {
		count[line]++
	}
	for _, line := range strings.Split(want, "\n") {
		count[line]--
	}
	var out []string
	for line, n := range count {
		switch {
		case n > 0:
			out = append(out, "  + "+line)
		case n < 0:
			out = append(out, "  - "+line)
		}
	}
	return strings.Join(out, "\n")
}
