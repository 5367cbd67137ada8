package standalone

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/access"
)

const (
	authDelayReal = 3 * time.Second
	resourceLag   = 10 * time.Second
	// firstGuest is the VMID of the first seeded guest.
	firstGuest = 1000
	// seedPatience bounds the making of all of them.
	seedPatience = 10 * time.Minute
)

// authDelay is how long a refused login takes.
func authDelay(latency string) time.Duration {
	if latency == "realistic" {
		return authDelayReal
	}
	return 0
}

// forgetPlatform removes the account that a simulated node has for this project's daemon:
// a fresh Proxmox VE has root@pam only.
func forgetPlatform(s *access.Store) error {
	err := s.SetACLs(s.ACLs(), true)
	for user := range s.Users() {
		if user != access.Root && err == nil {
			err = s.DeleteUser(user)
		}
	}
	for name, role := range s.Roles() {
		if !role.Special && err == nil {
			err = s.DeleteRole(name)
		}
	}
	return err
}

// seed makes stopped guests, one node after the other, by the API itself.
func (c *running) seed(ctx context.Context, count int) error {
	if count == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, seedPatience)
	defer cancel()
	secret, err := c.first.NewToken(access.Root, "seed", false)
	if err != nil {
		return err
	}
	defer func() { _ = c.first.Access().DeleteToken(access.Root, "seed") }()
	client := &http.Client{Transport: c.first.Transport()}
	nodes := c.first.Nodes()
	for i := range count {
		form := url.Values{
			"vmid": {fmt.Sprint(firstGuest + i)}, "ostemplate": {"local:vztmpl/" + templates[0]}, "rootfs": {"local-lvm:1"},
			"hostname": {fmt.Sprintf("guest%d", i)}, "memory": {"128"}, "cores": {"1"}, "tags": {"seeded"},
		}
		if err := c.create(ctx, client, nodes[i%len(nodes)].Name(), secret, form); err != nil {
			return fmt.Errorf("seed guest %s: %w", form.Get("vmid"), err)
		}
	}
	return nil
}

// create makes a guest and waits for its task.
func (c *running) create(ctx context.Context, client *http.Client, node, secret string, form url.Values) error {
	call := func(method, path string, body io.Reader) (any, error) {
		req, err := http.NewRequestWithContext(ctx, method, "http://pvesim/api2/json/nodes/"+node+path, body)
		if err != nil {
			return nil, err
		}
		if body != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		req.Header.Set("Authorization", "PVEAPIToken="+access.Root+"!seed="+secret)
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("%s", resp.Status)
		}
		var data any
		err = decode(resp.Body, &data)
		return data, err
	}
	if _, err := call(http.MethodPost, "/lxc", strings.NewReader(form.Encode())); err != nil {
		return err
	}
	for {
		data, err := call(http.MethodGet, "/lxc/"+form.Get("vmid")+"/status/current", nil)
		if err != nil {
			return err
		}
		if status, ok := data.(map[string]any); ok && status["lock"] == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// decode reads the data of an answer.
func decode(r io.Reader, data *any) error {
	var answer struct {
		Data any `json:"data"`
	}
	if err := json.NewDecoder(r).Decode(&answer); err != nil {
		return err
	}
	*data = answer.Data
	return nil
}
