package embedded

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// pveClient is as much of a Proxmox VE client as the test needs.
type pveClient struct {
	t    *testing.T
	info Info
	http *http.Client
}

func newPVEClient(t *testing.T, info Info) *pveClient {
	pinned := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(cs tls.ConnectionState) error {
		sum := sha256.Sum256(cs.PeerCertificates[0].Raw)
		if got := hex.EncodeToString(sum[:]); !strings.EqualFold(got, strings.ReplaceAll(info.Fingerprint, ":", "")) {
			return fmt.Errorf("fingerprint %s", got)
		}
		return nil
	}}
	transport := &http.Transport{TLSClientConfig: pinned}
	t.Cleanup(transport.CloseIdleConnections)
	return &pveClient{t, info, &http.Client{Transport: transport}}
}

// call makes a request and decodes its data.
func (c *pveClient) call(method, path string, form url.Values, data any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.info.APIURL+"/api2/json"+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Authorization", "PVEAPIToken="+c.info.TokenID+"="+c.info.TokenSecret)
	resp, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s %s (%v)", method, path, resp.Status, body, err)
	}
	if err := json.Unmarshal(body, &struct{ Data any }{data}); err != nil {
		c.t.Fatalf("%s %s: %s: %v", method, path, body, err)
	}
}

// task starts a task and waits for its good end.
func (c *pveClient) task(method, path string, form url.Values) {
	c.t.Helper()
	var upid string
	c.call(method, path, form, &upid)
	var status struct{ Status, ExitStatus string }
	eventually(c.t, "end of "+upid, func() bool {
		c.call("GET", "/nodes/pve/tasks/"+url.PathEscape(upid)+"/status", nil, &status)
		return status.Status == "stopped"
	})
	if status.ExitStatus != "OK" {
		c.t.Fatalf("%s %s: task ended with %q", method, path, status.ExitStatus)
	}
}

// addressOf waits for a guest's IPv4 address.
func (c *pveClient) addressOf(vmid int) string {
	c.t.Helper()
	var address string
	eventually(c.t, "address of the guest", func() bool {
		var list []struct{ Name, Inet string }
		c.call("GET", fmt.Sprintf("/nodes/pve/lxc/%d/interfaces", vmid), nil, &list)
		for _, i := range list {
			if i.Name == "eth0" && i.Inet != "" {
				address = i.Inet
			}
		}
		return address != ""
	})
	return address
}

// ssh runs a command on the node with its own key and host key.
func (c *pveClient) ssh(command string) string {
	c.t.Helper()
	pem, err := os.ReadFile(c.info.SSHPrivateKeyPath)
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		c.t.Fatal(err)
	}
	host, _, _, _, err := ssh.ParseAuthorizedKey([]byte(c.info.SSHHostKey))
	if err != nil {
		c.t.Fatal(err)
	}
	client, err := ssh.Dial("tcp", c.info.SSHAddr, &ssh.ClientConfig{
		User: c.info.SSHUser, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, HostKeyCallback: ssh.FixedHostKey(host),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := session.Output(command)
	if err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	return string(out)
}

// TestRealNode makes a guest through the API of the simulated node, reaches it, and finds
// it running again after the node went down and came up.
func TestRealNode(t *testing.T) {
	for _, name := range []string{EngineMem, EngineLXC} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PROXIMITY_TEST_REAL_NODE", "1")
			n := startNode(t, name)
			c := newPVEClient(t, n.Info())
			c.task("POST", "/nodes/pve/lxc", url.Values{
				"vmid": {"101"}, "ostemplate": {"local:vztmpl/" + testTemplate}, "hostname": {"test-101"},
				"unprivileged": {"1"}, "features": {"nesting=1"}, "memory": {"256"}, "rootfs": {"local-lvm:2"},
				"net0": {"name=eth0,bridge=vmbr0,ip=dhcp"}, "onboot": {"1"},
			})
			c.task("POST", "/nodes/pve/lxc/101/status/start", url.Values{})
			address := c.addressOf(101)
			if !strings.HasPrefix(address, "192.168.50.1") {
				t.Errorf("address %s is not one of the uplink's", address)
			}
			if got := c.ssh("pct exec 101 -- hostname"); got != "test-101\n" {
				t.Errorf("hostname by ssh: %q", got)
			}
			if err := n.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := ensureNode(t, n.opts)
			if again.Info().Fingerprint != n.Info().Fingerprint || again.Info().TokenSecret != n.Info().TokenSecret {
				t.Error("the node came back with another identity")
			}
			var status struct{ Status string }
			newPVEClient(t, again.Info()).call("GET", "/nodes/pve/lxc/101/status/current", nil, &status)
			if status.Status != "running" {
				t.Errorf("a guest with onboot is %q after a boot", status.Status)
			}
		})
	}
}
