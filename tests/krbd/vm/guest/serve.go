package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"

	"github.com/cairn-storage/cairn/tests/krbd/vm/guest/wire"
)

// serve runs commands and passes connections on.
func serve() error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", wire.DialPort))
	if err != nil {
		return err
	}
	go accept(listener)
	return http.ListenAndServe(fmt.Sprintf(":%d", wire.RunPort), http.HandlerFunc(run))
}

func run(w http.ResponseWriter, r *http.Request) {
	var c wire.Command
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil || len(c.Argv) == 0 {
		http.Error(w, "not a command", http.StatusBadRequest)
		return
	}
	var output, errors strings.Builder
	cmd := exec.CommandContext(r.Context(), c.Argv[0], c.Argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(c.Input), &output, &errors
	var result wire.Result
	if err := cmd.Run(); err != nil {
		result.Failed = err.Error()
	}
	result.Output, result.Errors = output.String(), errors.String()
	_ = json.NewEncoder(w).Encode(result)
}

func accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go pass(conn)
	}
}

// pass makes a connection one with the Unix socket that its first line names.
func pass(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	path, err := reader.ReadString('\n')
	if err != nil {
		return
	}
	socket, err := net.Dial("unix", strings.TrimSpace(path))
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(socket, reader); _ = socket.Close() }()
	_, _ = io.Copy(conn, socket)
}
