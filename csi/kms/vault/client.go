// Package vault keeps the keys of volumes with HashiCorp Vault, or what speaks
// its HTTP API, such as OpenBao: wrapped by the transit engine, or in the KV
// engine of version 2.
package vault

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cairn-storage/cairn/csi/fault"
)

// The names of the providers.
const (
	TransitName = "vault-transit"
	KVName      = "vault-kv"
)

// Connection is how Vault is reached and entered.
type Connection struct {
	// Address is https://host:port.
	Address string
	// Namespace of Vault, empty for the root.
	Namespace string
	// CA certificates in PEM that Vault's own is signed by; empty are the system's.
	CA string
	// ServerName in Vault's certificate; empty is the address's.
	ServerName string
	// Timeout of one request.
	Timeout time.Duration
	// Token; empty logs in with the pod's own token, which is at TokenPath, in the
	// auth method at AuthMount, as Role.
	Token                      string
	TokenPath, AuthMount, Role string
}

// Clients keeps a client for each connection, with its login. Its zero value is usable.
type Clients struct {
	mu      sync.Mutex
	clients map[Connection]*Client
}

// maxClients is how many are kept: more than one for each KMS are of earlier
// configurations.
const maxClients = 32

// For returns the client for a connection.
func (c *Clients) For(connection Connection) (*Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if client := c.clients[connection]; client != nil {
		return client, nil
	}
	client, err := NewClient(connection)
	if err != nil {
		return nil, err
	}
	if c.clients == nil || len(c.clients) >= maxClients {
		c.clients = map[Connection]*Client{}
	}
	c.clients[connection] = client
	return client, nil
}

// Client speaks to one Vault.
type Client struct {
	connection Connection
	http       *http.Client
	login      login
}

// NewClient makes a client; it does not connect yet.
func NewClient(connection Connection) (*Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: connection.ServerName}
	if connection.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(connection.CA)) {
			return nil, fault.Errorf(fault.Refused, "the CA certificate of Vault %s is not PEM", connection.Address)
		}
	}
	transport := &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	return &Client{connection: connection, http: &http.Client{Transport: transport, CheckRedirect: redirect}}, nil
}

// redirect follows a standby's word of where the leader is, once, and by TLS only:
// the token goes with the request.
func redirect(next *http.Request, via []*http.Request) error {
	if len(via) > 1 || next.URL.Scheme != "https" {
		return errors.New("redirected more than once, or away from https")
	}
	return nil
}

// maxAnswer is the longest answer that is read, in bytes.
const maxAnswer = 1 << 20

// call is one request.
type call struct {
	method, path, token string
	body                any
	// secrets are strings that no error may show.
	secrets []string
}

// do sends a request with a token, and once more with a new one when the token of
// a login is no longer good.
func (c *Client) do(ctx context.Context, r call, answer any) error {
	token, err := c.token(ctx, "")
	if err != nil {
		return err
	}
	r.token = token
	err = c.send(ctx, r, answer)
	if !errors.Is(err, errForbidden) || c.connection.Token != "" {
		return err
	}
	if r.token, err = c.token(ctx, token); err != nil {
		return err
	}
	return c.send(ctx, r, answer)
}

// send sends a request and reads the answer's data; nothing is read into a nil answer.
func (c *Client) send(ctx context.Context, r call, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, c.connection.Timeout)
	defer cancel()
	req, err := c.request(ctx, r)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fault.Errorf(fault.Unavailable, "Vault %s: %w", c.connection.Address, err)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return fault.Errorf(fault.Unavailable, "Vault %s: read the answer: %w", c.connection.Address, err)
	}
	if resp.StatusCode >= 300 {
		return c.failed(r, resp.StatusCode, raw)
	}
	if answer == nil || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fault.Errorf(fault.Unavailable, "Vault %s: %s %s: the answer is not Vault's", c.connection.Address, r.method, r.path)
	}
	return nil
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode a request to Vault: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.connection.Address+"/v1/"+r.path, body)
	if err != nil {
		return nil, fmt.Errorf("make a request to Vault: %w", err)
	}
	req.Header.Set("X-Vault-Request", "true")
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("X-Vault-Token", r.token)
	}
	if c.connection.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", c.connection.Namespace)
	}
	return req, nil
}

var (
	errForbidden = errors.New("not permitted: the token is not valid, or its policies do not allow it")
	errNotFound  = errors.New("not there")
)

// failed makes an error of an answer. Vault says what is wrong in a list.
func (c *Client) failed(r call, status int, raw []byte) error {
	var said struct {
		Errors []string `json:"errors"`
	}
	kind, why := fault.Refused, error(nil)
	_ = json.Unmarshal(raw, &said) // a proxy may have answered: the status counts
	switch {
	case status == http.StatusForbidden:
		why = errForbidden
	case status == http.StatusNotFound:
		why = errNotFound
	case status == http.StatusTooManyRequests, status >= 500:
		// 503 is also a Vault that is sealed, 429 one that stands by.
		kind, why = fault.Unavailable, errors.New("not available now")
	default:
		why = errors.New("refused")
	}
	return fault.Errorf(kind, "Vault %s: %s %s: status %d: %w%s", c.connection.Address, r.method, r.path, status, why, quote(said.Errors, append(r.secrets, r.token)))
}

// maxSaid is how much of what Vault says is passed on, in bytes.
const maxSaid = 300

// quote returns what Vault said, without the secrets of the request.
func quote(said, secrets []string) string {
	text := strings.Join(strings.Fields(strings.Join(said, "; ")), " ")
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "(hidden)")
		}
	}
	if text == "" {
		return ""
	}
	if len(text) > maxSaid {
		text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
	}
	return ": " + text
}
