package vault

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/cairn-storage/cairn/csi/fault"
)

// Transit wraps with a key that never leaves Vault. The volume's ID is the
// associated data, so that the key must be of a type with authentication:
// aes256-gcm96 (the default) or chacha20-poly1305.
type Transit struct {
	Client     *Client
	Mount, Key string
}

// transitPrefix begins what the transit engine makes: vault:v<version>:<base64>.
const transitPrefix = "vault:v"

// Wrap encrypts a passphrase.
func (t Transit) Wrap(ctx context.Context, volume string, passphrase []byte) (string, error) {
	plain := base64.StdEncoding.EncodeToString(passphrase)
	var answer struct {
		Data struct {
			Ciphertext string `json:"ciphertext"`
		} `json:"data"`
	}
	err := t.Client.do(ctx, t.call("encrypt", volume, "plaintext", plain), &answer)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(answer.Data.Ciphertext, transitPrefix) {
		return "", fault.Errorf(fault.Unavailable, "Vault %s gave no ciphertext", t.Client.connection.Address)
	}
	return answer.Data.Ciphertext, nil
}

// Unwrap decrypts a passphrase.
func (t Transit) Unwrap(ctx context.Context, volume, wrapped string) ([]byte, error) {
	var answer struct {
		Data struct {
			Plaintext string `json:"plaintext"`
		} `json:"data"`
	}
	err := t.Client.do(ctx, t.call("decrypt", volume, "ciphertext", wrapped), &answer)
	if err != nil {
		return nil, err
	}
	passphrase, err := base64.StdEncoding.DecodeString(answer.Data.Plaintext)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "Vault %s gave a plaintext that is not base64", t.Client.connection.Address)
	}
	return passphrase, nil
}

// Forget has nothing to do: the wrapped key goes with the image.
func (t Transit) Forget(context.Context, string, string) error { return nil }

func (t Transit) call(op, volume, field, value string) call {
	return call{
		method: http.MethodPost, path: t.Mount + "/" + op + "/" + t.Key,
		body:    map[string]string{field: value, "associated_data": base64.StdEncoding.EncodeToString([]byte(volume))},
		secrets: []string{value},
	}
}
