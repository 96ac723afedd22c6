package kms

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/kms/vault"
)

// Config is how one KMS is used.
type Config struct {
	Provider   string // vault.TransitName or vault.KVName
	Connection vault.Connection
	// Mount is where Vault has the engine.
	Mount string
	// Key of the transit engine.
	Key string
	// Prefix of paths in the KV engine.
	Prefix string
}

// file is a configuration as it is written down.
type file struct {
	Provider      string `json:"provider"`
	Address       string `json:"address"`
	Namespace     string `json:"namespace"`
	CACertificate string `json:"caCertificate"`
	ServerName    string `json:"serverName"`
	Timeout       string `json:"timeout"`
	Mount         string `json:"mount"`
	Key           string `json:"key"`
	Prefix        string `json:"prefix"`
	Auth          struct {
		Method    string `json:"method"`
		Mount     string `json:"mount"`
		Role      string `json:"role"`
		TokenPath string `json:"tokenPath"`
	} `json:"auth"`
}

var (
	idForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	pathForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$`)
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)
)

// CheckID says what is wrong with the ID of a configuration.
func CheckID(id string) error {
	if !idForm.MatchString(id) {
		return errors.New("is not the ID of a KMS: at most 63 of a-z 0-9 -")
	}
	return nil
}

// The bounds of a request's time.
const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Minute
)

// serviceAccountToken is where a pod has its own token.
const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// parseConfig reads a configuration: YAML, any unknown field refused. The token
// is that of the KMS, empty for none.
func parseConfig(id, text, token string) (Config, error) {
	var f file
	if err := yaml.UnmarshalStrict([]byte(text), &f); err != nil {
		return Config{}, wrong(id, "cannot be read: %w", err)
	}
	c := Config{Provider: f.Provider, Key: f.Key, Prefix: f.Prefix, Mount: f.Mount}
	if err := f.engine(id, &c); err != nil {
		return Config{}, err
	}
	err := f.connection(id, token, &c.Connection)
	return c, err
}

func (f file) engine(id string, c *Config) error {
	switch f.Provider {
	case vault.TransitName:
		c.Mount = or(c.Mount, "transit")
		if !nameForm.MatchString(c.Key) || c.Prefix != "" {
			return wrong(id, "key: want the name of a transit key, and no prefix")
		}
	case vault.KVName:
		c.Mount, c.Prefix = or(c.Mount, "secret"), or(c.Prefix, "cairn")
		if !pathForm.MatchString(c.Prefix) || c.Key != "" {
			return wrong(id, "prefix: %q is not a path, or a key is named", c.Prefix)
		}
	default:
		return wrong(id, "provider: %q is neither %s nor %s", f.Provider, vault.TransitName, vault.KVName)
	}
	if !pathForm.MatchString(c.Mount) {
		return wrong(id, "mount: %q is not a path", c.Mount)
	}
	return nil
}

func (f file) connection(id, token string, c *vault.Connection) error {
	address, err := url.Parse(f.Address)
	if err != nil || address.Scheme != "https" || address.Host == "" || address.User != nil ||
		address.RawQuery != "" || address.Fragment != "" || strings.Trim(address.Path, "/") != "" {
		return wrong(id, "address: want https://host:port")
	}
	*c = vault.Connection{Address: "https://" + address.Host, Namespace: strings.Trim(f.Namespace, "/"), CA: f.CACertificate, ServerName: f.ServerName, Timeout: defaultTimeout}
	if c.Namespace != "" && !pathForm.MatchString(c.Namespace) {
		return wrong(id, "namespace: %q is not a path", f.Namespace)
	}
	if f.Timeout != "" {
		if c.Timeout, err = time.ParseDuration(f.Timeout); err != nil || c.Timeout <= 0 || c.Timeout > maxTimeout {
			return wrong(id, "timeout: want a time of at most %s, such as 10s", maxTimeout)
		}
	}
	return f.auth(id, token, c)
}

func (f file) auth(id, token string, c *vault.Connection) error {
	switch f.Auth.Method {
	case "token":
		if c.Token = token; token == "" {
			return wrong(id, "auth: there is no %s in the Secret %s", tokenKey(id), ObjectName)
		}
		return nil
	case "kubernetes":
		c.Role, c.AuthMount, c.TokenPath = f.Auth.Role, or(f.Auth.Mount, "kubernetes"), or(f.Auth.TokenPath, serviceAccountToken)
		if c.Role == "" || !pathForm.MatchString(c.AuthMount) || !strings.HasPrefix(c.TokenPath, "/var/run/secrets/") || strings.Contains(c.TokenPath, "..") {
			return wrong(id, "auth: want a role, a mount that is a path, and a tokenPath below /var/run/secrets")
		}
		return nil
	}
	return wrong(id, "auth.method: %q is neither token nor kubernetes", f.Auth.Method)
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func wrong(id, format string, args ...any) error {
	return fault.Errorf(fault.Refused, "the configuration of KMS "+id+" in ConfigMap "+ObjectName+": "+format, args...)
}
