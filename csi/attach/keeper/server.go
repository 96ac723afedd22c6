package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"k8s.io/klog/v2"
)

// Dir is the keeper's directory on a node.
type Dir string

// Socket is where the keeper is called.
func (d Dir) Socket() string { return filepath.Join(string(d), "keeper.sock") }

func (d Dir) lock() string { return filepath.Join(string(d), "keeper.lock") }

// Run is a keeper, until the context ends. Volumes do not notice its end while the
// attach process lives: the next keeper gets all anew.
func Run(ctx context.Context, dir Dir) error {
	if err := Lock(ctx, dir.lock()); err != nil {
		return err
	}
	listener, err := Listen(dir.Socket())
	if err != nil {
		return err
	}
	klog.InfoS("Serving", "socket", dir.Socket())
	return new(Server).Serve(ctx, listener)
}

// Server holds entries in memory until they are dropped, or it ends.
type Server struct {
	mu      sync.Mutex
	entries map[string]entry
}

type entry struct {
	state json.RawMessage
	files []*os.File
}

// Listen listens on a unix socket that only root may use. One that an earlier
// keeper left is removed: the caller holds the lock beside it.
func Listen(socket string) (*net.UnixListener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale socket: %w", err)
	}
	// Bound elsewhere first: nobody reaches it before its mode is set.
	private := filepath.Join(filepath.Dir(socket), ".keeper.sock")
	if err := os.Remove(private); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale socket: %w", err)
	}
	listener, err := net.ListenUnix(network, &net.UnixAddr{Name: private, Net: network})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	listener.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(private, 0o600), os.Rename(private, socket)); err != nil {
		return nil, errors.Join(fmt.Errorf("protect the socket: %w", err), listener.Close())
	}
	return listener, nil
}

// Serve serves until the context ends.
func (s *Server) Serve(ctx context.Context, listener *net.UnixListener) error {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept a connection: %w", err)
		}
		go s.converse(ctx, conn)
	}
}

func (s *Server) converse(ctx context.Context, conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for {
		var in request
		files, err := receive(conn, &in)
		if err != nil {
			return
		}
		if in.Op == opWait {
			closeAll(files)
			continue
		}
		if err := s.answer(conn, in, files); err != nil {
			klog.ErrorS(err, "The caller is gone", "operation", in.Op)
			return
		}
	}
}

// answer is under the lock as a whole: an entry's descriptors are not closed
// while they are sent.
func (s *Server) answer(conn *net.UnixConn, in request, files []*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out response
	var sent []*os.File
	switch in.Op {
	case opPut:
		s.drop(in.Name)
		if s.entries == nil {
			s.entries = map[string]entry{}
		}
		s.entries[in.Name], files = entry{in.State, files}, nil
	case opGet:
		kept, found := s.entries[in.Name]
		out.State, out.Found, sent = kept.state, found, kept.files
	case opList:
		out.Names = slices.Sorted(maps.Keys(s.entries))
	case opDrop:
		s.drop(in.Name)
	default:
		out.Error = fmt.Sprintf("%q is no operation", in.Op)
	}
	closeAll(files)
	return send(conn, out, sent)
}

func (s *Server) drop(name string) {
	closeAll(s.entries[name].files)
	delete(s.entries, name)
}
