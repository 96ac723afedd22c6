package vault

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cairn-storage/cairn/csi/fault"
)

// login is the token of a login, and until when it is used.
type login struct {
	mu    sync.Mutex
	token string
	until time.Time
}

// token returns the token to send: the fixed one, or that of a login, which is
// made anew when two thirds of its time are over, or when it is the one that was
// refused.
func (c *Client) token(ctx context.Context, refused string) (string, error) {
	if c.connection.Token != "" {
		return c.connection.Token, nil
	}
	c.login.mu.Lock()
	defer c.login.mu.Unlock()
	if c.login.token != "" && c.login.token != refused && time.Now().Before(c.login.until) {
		return c.login.token, nil
	}
	return c.logIn(ctx)
}

// logIn shows Vault the pod's own token. The file is read each time: kubelet
// renews it.
func (c *Client) logIn(ctx context.Context) (string, error) {
	raw, err := os.ReadFile(c.connection.TokenPath)
	if err != nil {
		return "", fault.Errorf(fault.Unavailable, "read the pod's token for Vault: %w", err)
	}
	jwt := strings.TrimSpace(string(raw))
	var answer struct {
		Auth struct {
			ClientToken   string `json:"client_token"`
			LeaseDuration int64  `json:"lease_duration"` // seconds
		} `json:"auth"`
	}
	err = c.send(ctx, call{
		method: http.MethodPost, path: "auth/" + c.connection.AuthMount + "/login",
		body: map[string]string{"role": c.connection.Role, "jwt": jwt}, secrets: []string{jwt},
	}, &answer)
	if err != nil {
		return "", err
	}
	if answer.Auth.ClientToken == "" {
		return "", fault.Errorf(fault.Unavailable, "Vault %s: the login gave no token", c.connection.Address)
	}
	lease := time.Duration(answer.Auth.LeaseDuration) * time.Second
	if lease <= 0 {
		lease = time.Hour
	}
	c.login.token, c.login.until = answer.Auth.ClientToken, time.Now().Add(lease*2/3)
	return c.login.token, nil
}
