package option

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// OfMgrModule reports whether an option is one of the mgr's modules, which only an
// active mgr knows.
func OfMgrModule(name string) bool { return strings.HasPrefix(name, "mgr/") }

// Check says why an option of a section (global, osd, osd.3) cannot have a value,
// and what it can have.
func Check(o *ceph.Option, section, value string) error {
	kind, _, _ := strings.Cut(section, ".")
	if !reads(o, kind) {
		return fmt.Errorf("%s is an option of %s, not of %s; put it there, or in global", o.Name, strings.Join(o.Services, " and "), kind)
	}
	if len(o.Values) > 0 && o.Type == "str" && !slices.Contains(o.Values, value) {
		return fmt.Errorf("%q is none of its values: %s", value, strings.Join(o.Values, ", "))
	}
	normal, err := Normal(o, value)
	if err != nil {
		return err
	}
	if below(o, normal, o.Min) || o.Max != "" && below(o, o.Max, normal) {
		return fmt.Errorf("%s is out of range: it must be %s", value, rangeOf(o))
	}
	return nil
}

// daemons are the sections' kinds but client, which is whatever is no daemon: rbd, rgw.
var daemons = []string{"mon", "mgr", "osd", "mds"}

// reads reports whether those of a section's kind read an option.
func reads(o *ceph.Option, kind string) bool {
	return kind == "global" || len(o.Services) == 0 || slices.Contains(o.Services, kind) ||
		kind == "client" && slices.ContainsFunc(o.Services, func(service string) bool { return !slices.Contains(daemons, service) })
}

// below reports whether a number is less than a bound.
func below(o *ceph.Option, number, bound string) bool {
	if o.Type == "str" || bound == "" || number == "" {
		return false
	}
	n, okN := new(big.Float).SetString(number)
	b, okB := new(big.Float).SetString(bound)
	return okN && okB && n.Cmp(b) < 0
}

func rangeOf(o *ceph.Option) string {
	switch {
	case o.Max == "":
		return o.Min + " or more"
	case o.Min == "":
		return o.Max + " or less"
	}
	return fmt.Sprintf("between %s and %s", o.Min, o.Max)
}

// Same reports whether two values of an option are one.
func Same(o *ceph.Option, a, b string) bool {
	if a == b {
		return true
	}
	one, errA := Normal(o, a)
	other, errB := Normal(o, b)
	return errA == nil && errB == nil && one == other
}

var (
	integer = regexp.MustCompile(`^([+-]?\d+)([KMGTPE]?)$`)
	size    = regexp.MustCompile(`^(\d+)(?:([KMGTPE])i?)?B?$`)
	span    = regexp.MustCompile(`(\d+)\s*([a-z]*)\s*`)
	level   = regexp.MustCompile(`^(\d{1,2})(?:/(\d{1,2}))?$`)
)

// Normal is a value in the form in which Ceph keeps it.
func Normal(o *ceph.Option, value string) (string, error) {
	switch o.Type {
	case "int", "uint":
		found := integer.FindStringSubmatch(value)
		if found == nil || o.Type == "uint" && strings.HasPrefix(value, "-") {
			return "", fmt.Errorf("%q is no %s: a whole number, such as 4 or 64K (K is 1000 here)", value, word(o.Type))
		}
		return bounded(o, found[1], found[2], 1000)
	case "size":
		found := size.FindStringSubmatch(value)
		if found == nil {
			return "", fmt.Errorf("%q is no size: a number of bytes, such as 4096, 64M or 4G (K is 1024 here)", value)
		}
		return bounded(o, found[1], found[2], 1024)
	case "float":
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return "", fmt.Errorf("%q is no number, such as 0.5", value)
		}
		return strconv.FormatFloat(f, 'f', 6, 64), nil
	case "bool":
		return boolean(value)
	case "secs":
		return seconds(value)
	case "millisecs":
		if _, err := strconv.ParseUint(value, 10, 63); err != nil {
			return "", fmt.Errorf("%q is no number of milliseconds, such as 500", value)
		}
	case "str":
		if strings.HasPrefix(o.Name, "debug_") && len(o.Values) == 0 {
			return debugLevel(value)
		}
	}
	return value, nil
}

func word(kind string) string {
	if kind == "uint" {
		return "whole number of 0 or more"
	}
	return "whole number"
}

// bounded multiplies a number by its unit, and keeps it within 64 bits.
func bounded(o *ceph.Option, number, unit string, base int64) (string, error) {
	n, _ := new(big.Int).SetString(strings.TrimPrefix(number, "+"), 10)
	if unit != "" {
		n.Mul(n, new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(strings.Index("KMGTPE", unit)+1)), nil))
	}
	if o.Type == "uint" && !n.IsUint64() || o.Type != "uint" && !n.IsInt64() {
		return "", fmt.Errorf("%s%s is more than 64 bits hold", number, unit)
	}
	return n.String(), nil
}

func boolean(value string) (string, error) {
	switch strings.ToLower(value) {
	case "true":
		return "true", nil
	case "false":
		return "false", nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		return "", fmt.Errorf("%q is neither true nor false", value)
	}
	return strconv.FormatBool(n != 0), nil
}

// units of time, in seconds. A month and a year are Ceph's.
var units = map[string]int64{
	"": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1, "m": 60, "min": 60, "minute": 60, "minutes": 60, "h": 3600, "hr": 3600, "hour": 3600, "hours": 3600,
	"d": 86400, "day": 86400, "days": 86400, "w": 604800, "wk": 604800, "week": 604800, "weeks": 604800,
}

func seconds(value string) (string, error) {
	wrong := fmt.Errorf("%q is no time, such as 90, 15m or 1h", value)
	if value == "" || strings.TrimSpace(span.ReplaceAllString(value, "")) != "" {
		return "", wrong
	}
	var total int64
	for _, part := range span.FindAllStringSubmatch(value, -1) {
		n, err := strconv.ParseInt(part[1], 10, 32)
		unit, ok := units[part[2]]
		if err != nil || !ok {
			return "", wrong
		}
		total += n * unit
	}
	return strconv.FormatInt(total, 10), nil
}

func debugLevel(value string) (string, error) {
	found := level.FindStringSubmatch(value)
	if found == nil {
		return "", errors.New("it must be a level such as 1 or 1/5, of which each is between 0 and 99")
	}
	return found[1] + "/" + cmp.Or(found[2], found[1]), nil
}

// nearest is how many names are offered in place of one that does not exist.
const nearest = 3

// Near are the names that are most like one, best first.
func Near(names []string, name string) []string {
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	for _, other := range names {
		if d := distance(name, other); d <= max(2, len(name)/5) {
			near = append(near, candidate{other, d})
		}
	}
	slices.SortFunc(near, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range near[:min(nearest, len(near))] {
		out = append(out, c.name)
	}
	return out
}

// distance is how many letters must be added, taken away or changed (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
