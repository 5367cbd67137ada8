package pvesim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/proximity-pve/proximity/pkg/pvesim/tasks"
)

// downloadURL fetches a template from a URL.
func downloadURL(c *call) (result, error) {
	n := c.node
	s, err := n.findStorage(c.params["storage"])
	if err != nil {
		return result{}, err
	}
	name, err := c.contentFile(s, "can't upload to storage type '%s', not a file based storage!", "storage '%s' is not configured for content-type '%s'")
	if err != nil {
		return result{}, err
	}
	source, algorithm, want := c.params["url"], c.params["checksum-algorithm"], c.params["checksum"]
	compression := c.params["compression"]
	return c.startTask("download", name, func(t *tasks.Task) error {
		if compression != "" {
			return fmt.Errorf("decompression not supported for vztmpl")
		}
		dest := s.path() + "/template/cache/" + name
		t.Logf("downloading %s to %s", source, dest)
		if n.hasTemplate(name) {
			return n.existing(t, name, dest, algorithm, want)
		}
		t.Logf("--%s--  %s", time.Now().Format(time.DateTime), source)
		tmp, err := n.fetch(t.Context(), source)
		if err != nil {
			return err
		}
		defer os.Remove(tmp) // fails harmlessly after the rename
		if want != "" {
			got, err := sumOf(tmp, algorithm)
			if err != nil {
				return err
			}
			if !strings.EqualFold(got, want) {
				return fmt.Errorf("checksum mismatch: got '%s' != expect '%s'", got, want)
			}
			t.Logf("calculating checksum...OK, checksum verified")
		}
		if err := n.addTemplate(tmp, name); err != nil {
			return err
		}
		t.Logf("download of '%s' to '%s' finished", source, dest)
		return nil
	})
}

// existing decides about a file that is there already: with the right checksum it is
// good, without one it is never overwritten (PVE::Tools, download_file_from_url).
func (n *Node) existing(t *tasks.Task, name, dest, algorithm, want string) error {
	if want == "" {
		return fmt.Errorf("refusing to override existing file '%s'", dest)
	}
	file := n.templateArchive(name)
	if file == "" {
		file = n.templateDir + "/" + name
	}
	got, err := sumOf(file, algorithm)
	if err != nil {
		return err
	}
	if !strings.EqualFold(got, want) {
		return fmt.Errorf("checksum mismatch: got '%s' != expect '%s', aborting", got, want)
	}
	t.Logf("OK, got correct file already, no need to download")
	return nil
}

// fetch gets a file from this machine. Nothing else is ever asked: to everybody else the
// simulated node is one without a resolver.
func (n *Node) fetch(ctx context.Context, source string) (string, error) {
	u, err := url.Parse(source)
	if err != nil {
		return "", fmt.Errorf("download failed: %s: Invalid URL", source)
	}
	host := u.Hostname()
	if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
		return "", fmt.Errorf("download failed: wget: unable to resolve host address '%s'", host)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return "", fmt.Errorf("download failed: %s: Invalid URL", source)
	}
	client := &http.Client{
		Transport:     &http.Transport{Proxy: nil, DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, syscall.ECONNREFUSED) {
			//lint:ignore ST1005 the real text
			return "", fmt.Errorf("download failed: Connecting to %s... failed: Connection refused.", u.Host)
		}
		return "", fmt.Errorf("download failed: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("download failed: %s ERROR %s", time.Now().Format(time.DateTime), resp.Status)
	}
	if err := os.MkdirAll(n.uploadDir(), 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(n.uploadDir(), "download-*")
	if err != nil {
		return "", err
	}
	written, err := io.Copy(f, io.LimitReader(resp.Body, maxUploadBytes+1))
	if err == nil && written > maxUploadBytes {
		err = errors.New("file too large")
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("download failed: %w", err)
	}
	return f.Name(), nil
}

// downloadAppliance knows no templates, as the index of a node that never had internet.
func downloadAppliance(c *call) (result, error) {
	if _, err := c.node.findStorage(c.params["storage"]); err != nil {
		return result{}, err
	}
	return result{}, paramError("template", "no such template")
}
