// Package fake is a Vault for tests: the few calls of its HTTP API that the
// driver makes, as its documentation has them, and nothing that is not there.
package fake

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What a Vault knows of those who come.
const (
	Namespace = "team/a"
	Role      = "cairn"
	JWT       = "header.payload.signature"
	Token     = "hvs.fixed-token"
	Key       = "volumes"
)

// Vault is the server. Its engines are at transit, secret (KV 2) and the auth
// method at kubernetes.
type Vault struct {
	*httptest.Server

	mu      sync.Mutex
	aead    cipher.AEAD
	entries map[string]json.RawMessage
	tokens  []string
	// Logins counts those that succeeded.
	Logins int
	fail   func(path string) int
	redir  string
}

// New starts a server that ends with the test.
func New(t *testing.T) *Vault {
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, _ := aes.NewCipher(key)
	aead, _ := cipher.NewGCM(block)
	v := &Vault{aead: aead, entries: map[string]json.RawMessage{}, tokens: []string{Token}}
	v.Server = httptest.NewTLSServer(v)
	t.Cleanup(v.Close)
	return v
}

// CA is the certificate of the server's authority in PEM.
func (v *Vault) CA() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.Certificate().Raw}))
}

// FailWith answers with a status where f gives one.
func (v *Vault) FailWith(f func(path string) int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fail = f
}

// Redirect sends every request to another server, as one that stands by does.
func (v *Vault) Redirect(address string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.redir = address
}

// Revoke ends all tokens of logins.
func (v *Vault) Revoke() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tokens = v.tokens[:1]
}

// Entries is how many entries the KV engine has.
func (v *Vault) Entries() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.entries)
}

type failure struct {
	status int
	text   string
}

func no(status int, format string, args ...any) *failure {
	return &failure{status, fmt.Sprintf(format, args...)}
}

// ServeHTTP answers a request.
func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.redir != "" {
		http.Redirect(w, r, v.redir+r.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	data, wrong := v.answer(r)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case wrong != nil:
		w.WriteHeader(wrong.status)
		_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {wrong.text}})
	case data == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		_ = json.NewEncoder(w).Encode(data)
	}
}

func (v *Vault) answer(r *http.Request) (any, *failure) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if v.fail != nil {
		if status := v.fail(path); status != 0 {
			return nil, no(status, "planted, with the token %s", r.Header.Get("X-Vault-Token"))
		}
	}
	if r.Header.Get("X-Vault-Request") != "true" || r.Header.Get("X-Vault-Namespace") != Namespace {
		return nil, no(http.StatusBadRequest, "a header is missing or wrong")
	}
	body, wrong := read(r)
	if wrong != nil {
		return nil, wrong
	}
	if path == "auth/kubernetes/login" && r.Method == http.MethodPost {
		return v.login(body)
	}
	if !slices.Contains(v.tokens, r.Header.Get("X-Vault-Token")) {
		return nil, no(http.StatusForbidden, "permission denied")
	}
	entry, isData := strings.CutPrefix(path, "secret/data/")
	metadata, isMetadata := strings.CutPrefix(path, "secret/metadata/")
	switch {
	case path == "transit/encrypt/"+Key && r.Method == http.MethodPost:
		return v.encrypt(body)
	case path == "transit/decrypt/"+Key && r.Method == http.MethodPost:
		return v.decrypt(body)
	case isData && r.Method == http.MethodPost:
		return v.put(entry, body)
	case isData && r.Method == http.MethodGet:
		return v.get(entry)
	case isMetadata && r.Method == http.MethodDelete:
		delete(v.entries, metadata)
		return nil, nil
	}
	return nil, no(http.StatusNotFound, "no handler for route %q", path)
}

func read(r *http.Request) (body map[string]json.RawMessage, wrong *failure) {
	if r.Method != http.MethodPost {
		return nil, nil
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || r.Header.Get("Content-Type") != "application/json" {
		return nil, no(http.StatusBadRequest, "failed to parse JSON input")
	}
	return body, nil
}

// texts takes exactly the named strings from a body.
func texts(body map[string]json.RawMessage, names ...string) ([]string, *failure) {
	if len(body) != len(names) {
		return nil, no(http.StatusBadRequest, "want %q", names)
	}
	var out []string
	for _, name := range names {
		var text string
		if err := json.Unmarshal(body[name], &text); err != nil {
			return nil, no(http.StatusBadRequest, "field %q is not a string", name)
		}
		out = append(out, text)
	}
	return out, nil
}

func (v *Vault) login(body map[string]json.RawMessage) (any, *failure) {
	in, wrong := texts(body, "role", "jwt")
	if wrong != nil {
		return nil, wrong
	}
	if in[0] != Role {
		return nil, no(http.StatusBadRequest, "invalid role name %q", in[0])
	}
	if in[1] != JWT {
		return nil, no(http.StatusForbidden, "permission denied for %s", in[1])
	}
	v.Logins++
	token := fmt.Sprintf("hvs.login-%d", v.Logins)
	v.tokens = append(v.tokens, token)
	return map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 3600, "renewable": true}}, nil
}

func (v *Vault) encrypt(body map[string]json.RawMessage) (any, *failure) {
	in, wrong := texts(body, "plaintext", "associated_data")
	if wrong != nil {
		return nil, wrong
	}
	plain, err := base64.StdEncoding.DecodeString(in[0])
	if err != nil {
		return nil, no(http.StatusBadRequest, "failed to base64-decode plaintext")
	}
	nonce := make([]byte, v.aead.NonceSize())
	_, _ = rand.Read(nonce)
	sealed := v.aead.Seal(nonce, nonce, plain, []byte(in[1]))
	return data(map[string]any{"ciphertext": "vault:v1:" + base64.StdEncoding.EncodeToString(sealed), "key_version": 1}), nil
}

func (v *Vault) decrypt(body map[string]json.RawMessage) (any, *failure) {
	in, wrong := texts(body, "ciphertext", "associated_data")
	if wrong != nil {
		return nil, wrong
	}
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(in[0], "vault:v1:"))
	if err != nil || len(sealed) < v.aead.NonceSize() {
		return nil, no(http.StatusBadRequest, "invalid ciphertext: could not decode")
	}
	plain, err := v.aead.Open(nil, sealed[:v.aead.NonceSize()], sealed[v.aead.NonceSize():], []byte(in[1]))
	if err != nil {
		return nil, no(http.StatusBadRequest, "cipher: message authentication failed")
	}
	return data(map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)}), nil
}

func (v *Vault) put(entry string, body map[string]json.RawMessage) (any, *failure) {
	var options struct {
		CAS *int `json:"cas"`
	}
	if err := json.Unmarshal(body["options"], &options); err != nil || options.CAS == nil {
		return nil, no(http.StatusBadRequest, "check-and-set parameter required for this call")
	}
	if _, there := v.entries[entry]; there && *options.CAS == 0 {
		return nil, no(http.StatusBadRequest, "check-and-set parameter did not match the current version")
	}
	v.entries[entry] = body["data"]
	return data(map[string]any{"version": 1}), nil
}

func (v *Vault) get(entry string) (any, *failure) {
	value, there := v.entries[entry]
	if !there {
		return nil, no(http.StatusNotFound, "")
	}
	return data(map[string]any{"data": value, "metadata": map[string]any{"version": 1}}), nil
}

func data(m map[string]any) map[string]any { return map[string]any{"data": m} }
