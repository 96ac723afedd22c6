// Package wire is what the guest's agent and its caller say to each other.
package wire

// RunPort takes a Command and answers a Result, as JSON over HTTP. DialPort takes
// the path of a Unix socket in one line, and then is that socket.
const (
	RunPort  = 8000
	DialPort = 8001
)

// Command is a program to run.
type Command struct {
	Argv  []string `json:"argv"`
	Input string   `json:"input"`
}

// Result of a program.
type Result struct {
	Output string `json:"output"`
	Errors string `json:"errors"`
	// Failed says how it failed.
	Failed string `json:"failed"`
}
