// Package fake is a systemd that only tells its state.
package fake

import (
	"bufio"
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"
)

// Serve has a systemd of a state listen at a socket until the test ends.
func Serve(t testing.TB, socket, state string) {
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn, state)
		}
	}()
}

// answer lets in whoever comes, and says the state whatever is asked.
func answer(conn net.Conn, state string) {
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
		reply := dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(question.Serial()),
			dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(dbus.MakeVariant(state))),
		}, Body: []any{dbus.MakeVariant(state)}}
		if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil {
			return
		}
	}
}
