package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxFileBytes bounds endpoint files, configuration files and tokens: all are far smaller.
const maxFileBytes = 1 << 20

// Endpoint is what a serving daemon writes into D/endpoint.json and removes at its end.
type Endpoint struct {
	REST       string `json:"rest"`        // base URL of the REST API
	GRPC       string `json:"grpc"`        // host:port or URL of the gRPC API
	Forward    string `json:"forward"`     // host:port that leads to the appliance's HTTP port; "" without an embedded node
	ForwardTLS string `json:"forward_tls"` // the same for HTTPS
	CA         string `json:"ca"`          // file of the CA that signed the daemon's certificate
	TokenFile  string `json:"token_file"`  // file of the local administrator's token
	Engine     string `json:"engine"`      // lxc or mem
	Node       *Node  `json:"node,omitempty"`
}

// Node is the embedded node's process.
type Node struct {
	PID     int    `json:"pid"`
	LXCPath string `json:"lxc_path"`
}

// ReadEndpoint reads an endpoint file. Relative paths in it count from its directory. A
// missing file matches fs.ErrNotExist.
func ReadEndpoint(path string) (*Endpoint, error) {
	data, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no endpoint file %s: the daemon writes it when it serves and removes it at its end; "+
			"start the daemon, or name the right file: %w", path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("endpoint file: %w", err)
	}
	var e Endpoint
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("endpoint file %s: %w", path, err)
	}
	if e.GRPC == "" {
		return nil, fmt.Errorf("endpoint file %s has no grpc address", path)
	}
	e.CA, e.TokenFile = besides(path, e.CA), besides(path, e.TokenFile)
	return &e, nil
}

// besides returns p, or p in the directory of file when it is relative and exists there.
func besides(file, p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	if near := filepath.Join(filepath.Dir(file), p); exists(near) {
		return near
	}
	return p
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// readBounded reads a small file.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFileBytes {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFileBytes)
	}
	return data, nil
}
