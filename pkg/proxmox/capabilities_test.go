package proxmox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestCapabilitiesOfVersions(t *testing.T) {
	for _, tc := range []struct {
		version, container string
		want               Capabilities
	}{
		{"7.4-17", "4.4-6", Capabilities{MonitorPrivilege: true, ConsoleTokens: No}},
		{"7.4-17", "", Capabilities{MonitorPrivilege: true, ConsoleTokens: No}},
		{"8.0.4", "", Capabilities{BridgePrivilege: true, MonitorPrivilege: true, ConsoleTokens: No}},
		{"8.1.10", "5.0.8", Capabilities{GuestInterfaces: true, SDN: true, BridgePrivilege: true, MonitorPrivilege: true, ConsoleTokens: No}},
		{"8.4.1", "5.2.6", Capabilities{GuestInterfaces: true, GuestAddresses: true, SDN: true, BridgePrivilege: true, NetworkPrivilege: true,
			CleanExec: true, MonitorPrivilege: true, ConsoleTokens: No}},
		{"9.0.11", "", Capabilities{GuestInterfaces: true, GuestAddresses: true, SDN: true, BridgePrivilege: true, NetworkPrivilege: true,
			CleanExec: true, PlainTar: true, HARules: true, ConsoleTokens: Unknown}},
		{"9.1.4", "6.0.18", nine(No)},
		{"9.1.9", "6.1.3", nine(Yes)},
		{"9.1.9", "6.1.10~bpo1", nine(Yes)},
		{"9.1.4", "7", nine(Yes)},
		{"9.1.4", "6.1", nine(No)},
		{"9.1.4", "", nine(Unknown)},
		{"9.2.1", "", nine(Yes)},
		{"10.0.0", "", nine(Yes)},
	} {
		v := Version{Version: tc.version}
		packages := map[string]string{}
		if tc.container != "" {
			packages["pve-container"] = tc.container
		}
		tc.want.Version = v
		if got := CapabilitiesOf(v, packages); got != tc.want {
			t.Errorf("%s with pve-container %q:\ngot  %+v\nwant %+v", tc.version, tc.container, got, tc.want)
		}
	}
}

func nine(tokens Known) Capabilities {
	return Capabilities{GuestInterfaces: true, GuestAddresses: true, SDN: true, BridgePrivilege: true, NetworkPrivilege: true,
		CleanExec: true, PlainTar: true, HARules: true, OCI: true, ConsoleTokens: tokens}
}

func TestCapabilitiesAreProbed(t *testing.T) {
	for _, tc := range []struct {
		name    string
		version string
		respond func(w http.ResponseWriter, path string) bool
		check   func(Capabilities, error) string
	}{
		{"packages tell", "9.1.4", func(w http.ResponseWriter, path string) bool {
			if !strings.HasSuffix(path, "/apt/versions") {
				return false
			}
			answer(w, json.RawMessage(`[{"Package":"pve-container","OldVersion":"6.1.3","Version":"6.1.10","CurrentState":"Installed"},
				{"Package":"lxc-pve","OldVersion":"6.0.5","CurrentState":"NotInstalled"}]`))
			return true
		}, func(c Capabilities, err error) string {
			if err != nil || c.ConsoleTokens != Yes {
				return "want yes"
			}
			return ""
		}},
		{"packages are not ours to see", "9.1.4", func(w http.ResponseWriter, path string) bool {
			if !strings.HasSuffix(path, "/apt/versions") {
				return false
			}
			refuse(w, 403, "Permission check failed (/nodes/pve, Sys.Audit)", nil)
			return true
		}, func(c Capabilities, err error) string {
			if err != nil || c.ConsoleTokens != Unknown {
				return "want unknown"
			}
			return ""
		}},
		{"the node is away", "9.1.4", func(w http.ResponseWriter, path string) bool {
			if !strings.HasSuffix(path, "/apt/versions") {
				return false
			}
			refuse(w, 595, "No route to host", nil)
			return true
		}, func(_ Capabilities, err error) string {
			if !IsUnavailable(err) {
				return "want unavailable"
			}
			return ""
		}},
		{"SDN installed by hand", "7.4-17", func(w http.ResponseWriter, path string) bool {
			if path == "/cluster/sdn/zones" {
				answer(w, []int{})
				return true
			}
			refuse(w, 501, "Method 'GET "+path+"' not implemented", nil)
			return true
		}, func(c Capabilities, err error) string {
			if err != nil || !c.SDN {
				return "want SDN"
			}
			return ""
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(t, func(_ int, w http.ResponseWriter, r *http.Request) {
				path := strings.TrimPrefix(r.URL.Path, "/api2/json")
				if strings.HasSuffix(path, "/version") {
					answer(w, Version{Version: tc.version})
				} else if !tc.respond(w, path) {
					t.Errorf("asked for %s", path)
				}
			})
			c := newClient(t, s.config())
			got, err := c.Capabilities(t.Context(), "pve")
			if complaint := tc.check(got, err); complaint != "" {
				t.Errorf("%s: %+v %v", complaint, got, err)
			}
			asked := len(s.requests())
			again, err2 := c.Capabilities(t.Context(), "pve")
			if err == nil && (err2 != nil || again != got || len(s.requests()) != asked) {
				t.Errorf("asked again: %s", fmt.Sprint(again, err2))
			}
		})
	}
}
