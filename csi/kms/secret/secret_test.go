package secret

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/fault"
)

const (
	hexKey     = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	passphrase = "the-passphrase-of-a-volume"
)

func provider(t *testing.T, key string) *Provider {
	p, err := New(map[string]string{Field: key})
	require.NoError(t, err)
	return p
}

func TestKeys(t *testing.T) {
	base64Key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	for name, key := range map[string]string{
		"hex": hexKey, "base64": base64Key + "\n", "passphrase": "correct horse battery", "almost a key": hexKey[2:],
	} {
		t.Run(name, func(t *testing.T) {
			p := provider(t, key)
			require.Equal(t, name == "hex" || name == "base64", p.key != nil)
			one, err := p.Wrap(t.Context(), "v", []byte(passphrase))
			require.NoError(t, err)
			other, err := p.Wrap(t.Context(), "v", []byte(passphrase))
			require.NoError(t, err)
			require.NotEqual(t, one, other)
			got, err := p.Unwrap(t.Context(), "v", one)
			require.NoError(t, err)
			require.Equal(t, passphrase, string(got))
			require.NoError(t, p.Forget(t.Context(), "v", one))
		})
	}
}

func TestBadKeys(t *testing.T) {
	for key, says := range map[string]string{"": "is missing", " \n": "is missing", "elevenbytes": "too short"} {
		_, err := New(map[string]string{Field: key})
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, "secrets.encryptionKey:")
		require.Equal(t, fault.Invalid, fault.KindOf(err))
	}
}

// What was changed by as much as a bit, or moved to another volume, or wrapped
// with another key, does not open.
func TestAuthenticated(t *testing.T) {
	p := provider(t, hexKey)
	wrapped, err := p.Wrap(t.Context(), "v", []byte(passphrase))
	require.NoError(t, err)
	raw, err := base64.StdEncoding.DecodeString(wrapped)
	require.NoError(t, err)
	refused := func(p *Provider, volume, wrapped string) {
		t.Helper()
		_, err := p.Unwrap(t.Context(), volume, wrapped)
		require.Equal(t, fault.Refused, fault.KindOf(err))
		require.NotContains(t, err.Error(), hexKey)
	}
	for i := range raw {
		raw[i] ^= 1
		refused(p, "v", base64.StdEncoding.EncodeToString(raw))
		raw[i] ^= 1
	}
	for n := range raw {
		refused(p, "v", base64.StdEncoding.EncodeToString(raw[:n]))
	}
	refused(p, "w", wrapped)
	refused(p, "v", "!")
	refused(provider(t, strings.Repeat("ab", 32)), "v", wrapped)
	refused(provider(t, "a passphrase instead"), "v", wrapped)
}

func TestWaitingForADerivationGivesUp(t *testing.T) {
	one <- struct{}{}
	defer func() { <-one }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := provider(t, "correct horse battery").Wrap(ctx, "v", []byte(passphrase))
	require.ErrorIs(t, err, context.Canceled)
}
