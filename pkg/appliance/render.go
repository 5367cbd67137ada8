package appliance

import "errors"

// Render makes the complete set of files of an appliance. It is pure: the same Input
// gives the same Bundle. An error names the first bad appliance-level field; bad
// Hosts, Vhosts and Probes only show up in Bundle.Rejected.
func Render(in Input) (Bundle, error) {
	return Bundle{}, errors.New("not built yet")
}
