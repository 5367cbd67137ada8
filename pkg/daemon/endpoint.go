package daemon

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Endpoint is the content of endpoint.json: how programs on this machine find the daemon.
// It is there while the daemon serves.
type Endpoint struct {
	REST       string       `json:"rest"` // https://127.0.0.1:PORT
	GRPC       string       `json:"grpc"` // 127.0.0.1:PORT
	CA         string       `json:"ca"`   // path of the CA's certificate
	TokenFile  string       `json:"token_file"`
	Forward    string       `json:"forward,omitempty"`     // 127.0.0.1:PORT, HTTP of the embedded node's appliance
	ForwardTLS string       `json:"forward_tls,omitempty"` // likewise HTTPS
	Engine     string       `json:"engine,omitempty"`      // lxc or mem
	Node       EndpointNode `json:"node,omitzero"`
}

// EndpointNode lets a check look at the embedded node from outside: nsenter -t PID -n -m -p.
type EndpointNode struct {
	PID     int    `json:"pid"`
	LXCPath string `json:"lxc_path"`
}

// endpointFile is where the endpoint is written.
func endpointFile(dataDir string) string { return filepath.Join(dataDir, "endpoint.json") }

func writeEndpoint(dataDir string, e Endpoint) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(endpointFile(dataDir), append(data, '\n'))
}

// writeFile replaces a file (0600) atomically and durably.
func writeFile(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// installationID returns the id that all marks of this installation carry. It lives
// outside the database, so that a new database still recognises its own guests.
func installationID(dataDir string) (string, error) {
	path := filepath.Join(dataDir, "installation-id")
	data, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(data))
		if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
			return "", fmt.Errorf("%s does not hold 16 hexadecimal digits; restore it from a backup, because guests are recognised by it", path)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("installation id: %w", err)
	}
	var raw [8]byte
	rand.Read(raw[:]) // never fails
	id := hex.EncodeToString(raw[:])
	if err := writeFile(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("installation id: %w", err)
	}
	return id, nil
}
