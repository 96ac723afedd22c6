package kms

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/kms/secret"
	fakevault "github.com/cairn-storage/cairn/csi/kms/vault/fake"
)

const (
	volume = "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..pvc-1"
	clone  = "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.3..pvc-2"
	key    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

var secrets = map[string]string{secret.Field: key}

// source is the driver's namespace with some configurations.
func source(configs map[string]string, token string) Kubernetes {
	meta := metav1.ObjectMeta{Namespace: "ns", Name: ObjectName}
	client := fake.NewClientset(
		&corev1.ConfigMap{ObjectMeta: meta, Data: configs},
		&corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"transit.token": []byte(token + "\n"), "kv.token": []byte(token)}}).CoreV1()
	return Kubernetes{ConfigMaps: client.ConfigMaps("ns"), Secrets: client.Secrets("ns")}
}

func configs(v *fakevault.Vault) map[string]string {
	common := fmt.Sprintf("address: %s/\nnamespace: /%s/\nauth: {method: token}\ncaCertificate: |\n  %s\n", v.URL, fakevault.Namespace,
		strings.ReplaceAll(strings.TrimSpace(v.CA()), "\n", "\n  "))
	return map[string]string{
		"transit": "provider: vault-transit\nkey: volumes\n" + common,
		"kv":      "provider: vault-kv\nprefix: cairn/volumes\n" + common,
	}
}

// A volume's life with each provider: made, opened, cloned, forgotten.
func TestLife(t *testing.T) {
	for _, id := range []string{"", "transit", "kv"} {
		t.Run("KMS "+id, func(t *testing.T) {
			v := fakevault.New(t)
			keys := &Keys{Source: source(configs(v), fakevault.Token)}
			use := Use{KMS: id, Secrets: secrets}
			passphrase, record, err := keys.New(t.Context(), volume, use)
			require.NoError(t, err)
			require.Len(t, string(passphrase), 64)
			require.NotContains(t, record, string(passphrase))
			opened, err := keys.Open(t.Context(), volume, record, secrets)
			require.NoError(t, err)
			require.Equal(t, passphrase, opened)
			_, err = keys.Open(t.Context(), clone, record, secrets)
			require.Equal(t, fault.Refused, fault.KindOf(err))
			_, err = keys.Open(t.Context(), clone, strings.Replace(record, volume, clone, 1), secrets)
			require.Error(t, err, "the volume's name is authenticated")

			same, copied, err := keys.Copy(t.Context(), record, clone, use)
			require.NoError(t, err)
			require.Equal(t, passphrase, same)
			of, err := IDOf(copied)
			require.NoError(t, err)
			require.Equal(t, id, of)
			for range 2 {
				require.NoError(t, keys.Forget(t.Context(), record))
			}
			opened, err = keys.Open(t.Context(), clone, copied, secrets)
			require.NoError(t, err, "a clone outlives its parent's key")
			require.Equal(t, passphrase, opened)
			require.NoError(t, keys.Forget(t.Context(), copied))
			require.Zero(t, v.Entries())

			other, _, err := keys.New(t.Context(), volume, use)
			require.NoError(t, err)
			require.NotEqual(t, passphrase, other)
		})
	}
}

func TestTroubles(t *testing.T) {
	v := fakevault.New(t)
	keys := &Keys{Source: source(configs(v), fakevault.Token)}
	_, record, err := keys.New(t.Context(), volume, Use{KMS: "kv"})
	require.NoError(t, err)

	for _, id := range []string{"other", "../x", "A", strings.Repeat("a", 64)} {
		_, _, err = keys.New(t.Context(), volume, Use{KMS: id})
		require.Equal(t, fault.Refused, fault.KindOf(err), id)
	}
	_, _, err = keys.New(t.Context(), volume, Use{})
	require.Equal(t, fault.Invalid, fault.KindOf(err))
	_, _, err = (&Keys{}).New(t.Context(), volume, Use{KMS: "kv"})
	require.ErrorContains(t, err, "no configuration")

	changed := configs(v)
	changed["kv"] = changed["transit"]
	_, err = (&Keys{Source: source(changed, fakevault.Token)}).Open(t.Context(), volume, record, nil)
	require.ErrorContains(t, err, "is configured as vault-transit now")

	_, err = (&Keys{Source: source(configs(v), "")}).Open(t.Context(), volume, record, nil)
	require.ErrorContains(t, err, "no kv.token in the Secret")

	client := fake.NewClientset().CoreV1()
	nothing := &Keys{Source: Kubernetes{ConfigMaps: client.ConfigMaps("ns"), Secrets: client.Secrets("ns")}}
	_, err = nothing.Open(t.Context(), volume, record, nil)
	require.ErrorContains(t, err, "there is no ConfigMap cairn-kms")
}

func TestConfig(t *testing.T) {
	const good = "provider: vault-kv\naddress: https://vault:8200\nauth: {method: kubernetes, role: cairn}\n"
	c, err := parseConfig("x", good, "")
	require.NoError(t, err)
	require.Equal(t, "secret", c.Mount)
	require.Equal(t, "cairn", c.Prefix)
	require.Equal(t, defaultTimeout, c.Connection.Timeout)
	require.Equal(t, serviceAccountToken, c.Connection.TokenPath)
	for text, says := range map[string]string{
		"":                                        "provider",
		"provider: vault\n":                       "neither vault-transit nor vault-kv",
		good + "nonsense: 1\n":                    "unknown field",
		good + "key: x\n":                         "a key is named",
		good + "mount: ../sys\n":                  "mount",
		good + "prefix: a//b\n":                   "prefix",
		good + "namespace: a/../b\n":              "namespace",
		good + "timeout: 1h\n":                    "timeout",
		good + "timeout: -1s\n":                   "timeout",
		strings.Replace(good, "https", "http", 1): "address",
		strings.Replace(good, "vault:8200", "u:p@vault/", 1):         "address",
		strings.Replace(good, "vault:8200", "vault/v1/sys", 1):       "address",
		strings.Replace(good, "kubernetes", "userpass", 1):           "auth.method",
		strings.Replace(good, "role: cairn", "mount: x", 1):          "want a role",
		strings.Replace(good, "cairn", "c, tokenPath: /etc/x", 1):    "tokenPath",
		strings.Replace(good, "vault-kv", "vault-transit", 1):        "transit key",
		strings.Replace(good, "kubernetes, role: cairn", "token", 1): "no x.token",
	} {
		_, err := parseConfig("x", text, "")
		require.ErrorContains(t, err, says, text)
		require.Equal(t, fault.Refused, fault.KindOf(err))
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("provider: vault-kv\naddress: https://vault:8200\nauth: {method: kubernetes, role: cairn}\n", "")
	f.Add("provider: vault-transit\nkey: k\naddress: https://[::1]:8200\nauth: {method: token}\n", "t")
	f.Fuzz(func(t *testing.T, text, token string) {
		c, err := parseConfig("x", text, token)
		if err != nil {
			return
		}
		for _, path := range []string{c.Mount, c.Key, c.Prefix, c.Connection.Namespace, c.Connection.AuthMount} {
			require.NotContains(t, path, "..")
			require.NotContains(t, path, "?")
			require.False(t, strings.HasPrefix(path, "/"))
		}
		require.True(t, strings.HasPrefix(c.Connection.Address, "https://"))
		require.Positive(t, c.Connection.Timeout)
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add(`{"version":1,"provider":"secret","volume":"` + volume + `","wrapped":"x"}`)
	f.Add(`{"version":1,"kms":"a","provider":"vault-kv","volume":"` + volume + `","wrapped":"x"}`)
	f.Add(`{"version":1,"kms":"a","provider":"vault-kv","volume":"` + volume + `","wrapped":"x"}{}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseRecord(text)
		if err != nil {
			require.Equal(t, fault.Refused, fault.KindOf(err))
			return
		}
		encoded, err := r.encode()
		require.NoError(t, err)
		again, err := parseRecord(encoded)
		require.NoError(t, err)
		require.Equal(t, r, again)
	})
}

func TestRecordsThatAreRefused(t *testing.T) {
	good := record{Version: 1, Provider: secret.Name, Volume: volume, Wrapped: "x"}
	for says, change := range map[string]func(*record){
		"version 2":                    func(r *record) { r.Version = 2 },
		"does not use":                 func(r *record) { r.KMS = "kv" },
		`provider "rot13"`:             func(r *record) { r.Provider = "rot13" },
		`KMS ""`:                       func(r *record) { r.Provider = "vault-kv" },
		"of no volume":                 func(r *record) { r.Volume = "pvc-1" },
		"(cairn.storage/key) is empty": func(r *record) { r.Wrapped = "" },
		"bytes long":                   func(r *record) { r.Wrapped = strings.Repeat("x", maxRecord) },
	} {
		r := good
		change(&r)
		text, err := json.Marshal(r)
		require.NoError(t, err)
		_, err = parseRecord(string(text))
		require.ErrorContains(t, err, says)
	}
}
