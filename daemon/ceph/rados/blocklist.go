package rados

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Blocklist fences a client. Once this client's OSD map has the entry, every OSD
// that it asks has it too before it answers.
func (c *conn) Blocklist(ctx context.Context, addrs string, expire time.Duration) error {
	// The mons want a number with a fraction.
	seconds := json.Number(strconv.FormatFloat(expire.Seconds(), 'f', 3, 64))
	for _, addr := range strings.Split(strings.Trim(addrs, "[]"), ",") {
		if err := c.tell(ctx, command{"prefix": "osd blocklist", "blocklistop": "add", "addr": addr, "expire": seconds}); err != nil {
			return err
		}
	}
	const op = "wait for the blocklist"
	return c.run(ctx, op, func() error { return wrap(op, c.newestMap()) })
}
