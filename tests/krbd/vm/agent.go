package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"github.com/cairn-storage/cairn/tests/krbd/vm/guest/wire"
)

// Run runs a program in the guest and returns what it printed to its standard
// output. One that fails is an error with what it printed to standard error.
func (m *Machine) Run(ctx context.Context, program string, args ...string) (string, error) {
	return m.Feed(ctx, "", program, args...)
}

// Feed runs a program with an input.
func (m *Machine) Feed(ctx context.Context, input, program string, args ...string) (string, error) {
	body, err := json.Marshal(wire.Command{Argv: append([]string{program}, args...), Input: input})
	if err != nil {
		return "", err
	}
	url := "http://" + netip.AddrPortFrom(m.options.Guest.Addr(), wire.RunPort).String()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask the guest to run %s: %w", program, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var result wire.Result
	if err := json.NewDecoder(resp.Body).Decode(&result); err != nil {
		return "", fmt.Errorf("read what %s printed in the guest: %w", program, err)
	}
	if result.Failed != "" {
		return result.Output, fmt.Errorf("%s %q in the guest: %s: %s%s", program, args, result.Failed, result.Errors, result.Output)
	}
	return result.Output, nil
}

// Dial connects to a Unix socket in the guest.
func (m *Machine) Dial(ctx context.Context, socket string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", netip.AddrPortFrom(m.options.Guest.Addr(), wire.DialPort).String())
	if err != nil {
		return nil, fmt.Errorf("reach the guest: %w", err)
	}
	if _, err := fmt.Fprintln(conn, socket); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ask the guest for %s: %w", socket, err)
	}
	return conn, nil
}
