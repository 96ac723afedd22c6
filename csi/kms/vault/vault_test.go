package vault_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/kms/vault"
	"github.com/cairn-storage/cairn/csi/kms/vault/fake"
)

const passphrase = "0123456789abcdef-passphrase"

func byToken(v *fake.Vault) vault.Connection {
	return vault.Connection{Address: v.URL, Namespace: fake.Namespace, CA: v.CA(), Timeout: time.Minute, Token: fake.Token}
}

func byLogin(t *testing.T, v *fake.Vault, jwt string) vault.Connection {
	path := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(path, []byte(jwt+"\n"), 0o600))
	c := byToken(v)
	c.Token, c.TokenPath, c.AuthMount, c.Role = "", path, "kubernetes", fake.Role
	return c
}

func client(t *testing.T, c vault.Connection) *vault.Client {
	client, err := vault.NewClient(c)
	require.NoError(t, err)
	return client
}

type provider interface {
	Wrap(ctx context.Context, volume string, passphrase []byte) (string, error)
	Unwrap(ctx context.Context, volume, wrapped string) ([]byte, error)
	Forget(ctx context.Context, volume, wrapped string) error
}

func providers(c *vault.Client) map[string]provider {
	return map[string]provider{
		"transit": vault.Transit{Client: c, Mount: "transit", Key: fake.Key},
		"kv":      vault.KV{Client: c, Mount: "secret", Prefix: "cairn/volumes"},
	}
}

// Both engines keep a passphrase for its volume and for no other.
func TestContract(t *testing.T) {
	v := fake.New(t)
	for name, p := range providers(client(t, byToken(v))) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			wrapped, err := p.Wrap(ctx, "volume-1", []byte(passphrase))
			require.NoError(t, err)
			require.NotContains(t, wrapped, passphrase)
			again, err := p.Wrap(ctx, "volume-1", []byte(passphrase))
			require.NoError(t, err)
			require.NotEqual(t, wrapped, again)
			got, err := p.Unwrap(ctx, "volume-1", wrapped)
			require.NoError(t, err)
			require.Equal(t, passphrase, string(got))
			_, err = p.Unwrap(ctx, "volume-2", wrapped)
			require.Equal(t, fault.Refused, fault.KindOf(err))
			for range 2 {
				require.NoError(t, p.Forget(ctx, "volume-1", wrapped))
				require.NoError(t, p.Forget(ctx, "volume-1", again))
			}
			require.Zero(t, v.Entries())
		})
	}
}

// A forgotten entry is gone for good.
func TestShred(t *testing.T) {
	p := vault.KV{Client: client(t, byToken(fake.New(t))), Mount: "secret", Prefix: "cairn"}
	wrapped, err := p.Wrap(t.Context(), "v", []byte(passphrase))
	require.NoError(t, err)
	require.NoError(t, p.Forget(t.Context(), "v", wrapped))
	_, err = p.Unwrap(t.Context(), "v", wrapped)
	require.ErrorContains(t, err, "was deleted")
	require.Equal(t, fault.Refused, fault.KindOf(err))
	for _, bad := range []string{"", "../x", "sys/seal", wrapped + "/.."} {
		_, err = p.Unwrap(t.Context(), "v", bad)
		require.ErrorContains(t, err, "not the name")
		require.ErrorContains(t, p.Forget(t.Context(), "v", bad), "not the name")
	}
}

// One login serves many calls; a token that was revoked is replaced.
func TestLogin(t *testing.T) {
	v := fake.New(t)
	p := providers(client(t, byLogin(t, v, fake.JWT)))["transit"]
	for range 3 {
		_, err := p.Wrap(t.Context(), "v", []byte(passphrase))
		require.NoError(t, err)
	}
	require.Equal(t, 1, v.Logins)
	v.Revoke()
	_, err := p.Wrap(t.Context(), "v", []byte(passphrase))
	require.NoError(t, err)
	require.Equal(t, 2, v.Logins)
}

// What goes wrong has a kind, and no error shows what is secret.
func TestTroubles(t *testing.T) {
	answers := func(status int) func(*fake.Vault, *vault.Connection) {
		return func(v *fake.Vault, _ *vault.Connection) { v.FailWith(func(string) int { return status }) }
	}
	for name, c := range map[string]struct {
		spoil func(*fake.Vault, *vault.Connection)
		kind  fault.Kind
		says  string
	}{
		"bad token":       {func(_ *fake.Vault, c *vault.Connection) { c.Token = "hvs.other-token" }, fault.Refused, "not permitted"},
		"other namespace": {func(_ *fake.Vault, c *vault.Connection) { c.Namespace = "" }, fault.Refused, "status 400"},
		"sealed":          {answers(http.StatusServiceUnavailable), fault.Unavailable, "status 503"},
		"standby":         {answers(http.StatusTooManyRequests), fault.Unavailable, "status 429"},
		"broken":          {answers(http.StatusInternalServerError), fault.Unavailable, "planted"},
		"bad request":     {answers(http.StatusBadRequest), fault.Refused, "planted"},
		"nothing there":   {answers(http.StatusNotFound), fault.Refused, "not there"},
		"not Vault":       {answers(http.StatusOK), fault.Unavailable, ""},
		"gone":            {func(v *fake.Vault, _ *vault.Connection) { v.Close() }, fault.Unavailable, ""},
		"other authority": {func(_ *fake.Vault, c *vault.Connection) { c.CA = "" }, fault.Unavailable, "certificate"},
		"slow":            {func(_ *fake.Vault, c *vault.Connection) { c.Timeout = time.Nanosecond }, fault.Unavailable, "deadline"},
		"redirected away from TLS": {func(v *fake.Vault, _ *vault.Connection) { v.Redirect("http://127.0.0.1:1") },
			fault.Unavailable, "away from https"},
		"redirected in circles": {func(v *fake.Vault, _ *vault.Connection) { v.Redirect(v.URL) }, fault.Unavailable, "more than once"},
		"no pod token": {func(_ *fake.Vault, c *vault.Connection) { c.Token, c.TokenPath = "", "/nowhere" },
			fault.Unavailable, "pod's token"},
	} {
		t.Run(name, func(t *testing.T) {
			v := fake.New(t)
			connection := byToken(v)
			c.spoil(v, &connection)
			for _, p := range providers(client(t, connection)) {
				_, err := p.Wrap(t.Context(), "v", []byte(passphrase))
				require.ErrorContains(t, err, c.says)
				require.Equal(t, c.kind, fault.KindOf(err))
				for _, hidden := range []string{passphrase, fake.Token} {
					require.NotContains(t, err.Error(), hidden)
				}
			}
		})
	}
}

func TestStandbyRedirectsToTheLeader(t *testing.T) {
	leader := fake.New(t)
	standby := fake.New(t)
	standby.Redirect(leader.URL)
	connection := byToken(standby)
	connection.CA += leader.CA()
	_, err := providers(client(t, connection))["kv"].Wrap(t.Context(), "v", []byte(passphrase))
	require.NoError(t, err)
	require.Equal(t, 1, leader.Entries())
}

func TestRefusedLogin(t *testing.T) {
	v := fake.New(t)
	const jwt = "a.foreign.token"
	for _, p := range providers(client(t, byLogin(t, v, jwt))) {
		_, err := p.Wrap(t.Context(), "v", []byte(passphrase))
		require.ErrorContains(t, err, "auth/kubernetes/login")
		require.Equal(t, fault.Refused, fault.KindOf(err))
		require.NotContains(t, err.Error(), jwt)
	}
}

func TestClients(t *testing.T) {
	var clients vault.Clients
	one, err := clients.For(vault.Connection{Address: "https://a"})
	require.NoError(t, err)
	same, err := clients.For(vault.Connection{Address: "https://a"})
	require.NoError(t, err)
	require.Same(t, one, same)
	_, err = clients.For(vault.Connection{Address: "https://a", CA: "x"})
	require.ErrorContains(t, err, "not PEM")
}
