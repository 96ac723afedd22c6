package state

import (
	"fmt"
	"regexp"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

var (
	spaces = regexp.MustCompile(`\s+`)
	times  = regexp.MustCompile(`creation_time:\s*\{[^}]*\}`)
	// codes are IDs of this driver: they hold numbers that Ceph gave.
	codes = regexp.MustCompile(`"[0-9a-z]*\.[0-9a-f]{32}\.[^"]*"`)
)

// Answer is an answer's text without what differs from run to run: its time, and
// the IDs, of which only is kept which are the same.
func Answer(m proto.Message) string {
	text := prototext.MarshalOptions{Multiline: true}.Format(m)
	text = times.ReplaceAllString(spaces.ReplaceAllString(text, " "), "creation_time")
	seen := map[string]string{}
	return codes.ReplaceAllStringFunc(text, func(code string) string {
		if seen[code] == "" {
			seen[code] = fmt.Sprintf("(ID %d)", len(seen)+1)
		}
		return seen[code]
	})
}
