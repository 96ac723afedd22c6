package monstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// errNoKey is in the chain when a store has no value of a key.
var errNoKey = errors.New("there is none")

// noKeyLine is what the tool says then. Of a store that it cannot open it says something like it.
var noKeyLine = regexp.MustCompile(`\([^(),]+, ?[^(),]+\) does not exist`)

// kv runs ceph-kvstore-tool on a mon's store.
func kv(ctx context.Context, store, verb string, args ...string) error {
	_, err := run(ctx, "ceph-kvstore-tool", append([]string{"rocksdb", filepath.Join(store, "store.db"), verb}, args...)...)
	if err != nil && noKeyLine.MatchString(err.Error()) {
		return fmt.Errorf("%w: %w", errNoKey, err)
	}
	return err
}

// value of a key in a store.
func value(ctx context.Context, store, prefix, key string) (found []byte, err error) {
	err = withFile(func(path string) error {
		if err := kv(ctx, store, "get", prefix, key, "out", path); err != nil {
			return err
		}
		found, err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read %s/%s of %s: %w", prefix, key, store, err)
	}
	return found, nil
}

// number is a value that is one.
func number(ctx context.Context, store, prefix, key string) (uint64, error) {
	raw, err := value(ctx, store, prefix, key)
	if err != nil {
		return 0, err
	}
	if len(raw) != 8 {
		return 0, fmt.Errorf("%s/%s in %s has %d bytes, not 8", prefix, key, store, len(raw))
	}
	return binary.LittleEndian.Uint64(raw), nil
}

// set a key in a store.
func set(ctx context.Context, store, prefix, key string, to []byte) error {
	err := withFile(func(path string) error {
		if err := os.WriteFile(path, to, 0o600); err != nil {
			return err
		}
		return kv(ctx, store, "set", prefix, key, "in", path)
	})
	if err != nil {
		return fmt.Errorf("write %s/%s of %s: %w", prefix, key, store, err)
	}
	now, err := value(ctx, store, prefix, key)
	if err == nil && !bytes.Equal(now, to) {
		err = fmt.Errorf("%s/%s of %s is not what was written", prefix, key, store)
	}
	return err
}

func setNumber(ctx context.Context, store, prefix, key string, to uint64) error {
	return set(ctx, store, prefix, key, binary.LittleEndian.AppendUint64(nil, to))
}

// withFile has the path of a file that is to be made, and removes it afterwards.
func withFile(use func(path string) error) error {
	dir, err := os.MkdirTemp("", "monstore-")
	if err != nil {
		return fmt.Errorf("make room for a file: %w", err)
	}
	return errors.Join(use(filepath.Join(dir, "file")), os.RemoveAll(dir))
}
