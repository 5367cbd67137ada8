package pveschema

import (
	"net/url"
	"testing"
)

func TestCheckRequest(t *testing.T) {
	methods, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		method, path, params string
		known                bool
		wrong                string // a parameter that is complained of
	}{
		{"GET", "/version", "", true, ""},
		{"GET", "/version", "x=1", true, "x"},
		{"GET", "/nowhere", "", false, ""},
		{"PUT", "/nodes/pve/network", "", true, ""},
		{"PUT", "/nodes/pve/network/proxlan", "type=bridge", true, ""},
		{"PUT", "/nodes/pve/network/proximity-lan", "type=bridge", true, "iface"},
		{"POST", "/nodes/pve/lxc", "vmid=100&ostemplate=local:vztmpl/a.tar.zst&net31=name%3Deth0", true, ""},
		{"POST", "/nodes/pve/lxc", "vmid=100&ostemplate=local:vztmpl/a.tar.zst&net32=name%3Deth0", true, "net32"},
		{"POST", "/nodes/pve/lxc", "vmid=99&ostemplate=local:vztmpl/a.tar.zst", true, "vmid"},
		{"DELETE", "/nodes/pve/storage/local/content/local:vztmpl/a.tar.zst", "", true, ""},
	} {
		params, _ := url.ParseQuery(tc.params)
		errs, known := CheckRequest(methods, tc.method, tc.path, params)
		if known != tc.known || (tc.wrong == "") != (len(errs) == 0) || tc.wrong != "" && errs[tc.wrong] == "" {
			t.Errorf("%s %s %s: known %v, %v", tc.method, tc.path, tc.params, known, errs)
		}
	}
}
