// Package fake is a systemd and a logind that only tell their state.
package fake

import (
	"bufio"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
)

// Systemd has a systemd of a state listen below a directory, as on a node below /run, until the
// test ends.
func Systemd(t testing.TB, run, state string) { serve(t, run, "systemd/private", state) }

// Logind has a bus with a logind listen there.
func Logind(t testing.TB, run string, preparing bool) {
	serve(t, run, "dbus/system_bus_socket", preparing)
}

func serve(t testing.TB, run, name string, value any) {
	socket := filepath.Join(run, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(socket), 0o755))
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn, value)
		}
	}()
}

// answer lets in whoever comes, and says the value whatever is asked.
func answer(conn net.Conn, value any) {
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	for line := ""; !strings.HasPrefix(line, "BEGIN"); {
		var err error
		if line, err = in.ReadString('\n'); err != nil {
			return
		}
		reply := ""
		switch words := strings.Fields(strings.TrimPrefix(line, "\x00")); {
		case len(words) == 1 && words[0] == "AUTH":
			reply = "REJECTED EXTERNAL\r\n"
		case len(words) > 0 && words[0] == "AUTH":
			reply = "OK 0123456789abcdef0123456789abcdef\r\n"
		case len(words) > 0 && words[0] == "NEGOTIATE_UNIX_FD":
			reply = "AGREE_UNIX_FD\r\n"
		}
		if _, err := conn.Write([]byte(reply)); err != nil {
			return
		}
	}
	for {
		question, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		said := any(dbus.MakeVariant(value))
		if question.Headers[dbus.FieldMember].Value() == "Hello" {
			said = ":1.1"
		}
		reply := dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(question.Serial()),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(said)),
		}, Body: []any{said}}
		if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
			return
		}
	}
}
