package appliance

import (
	"fmt"
	"strings"
)

// Family is what differs between the operating systems that a guest may have. What it differs in
// inside the guest are the functions of agent/family/<name>.sh.
type Family interface {
	// Name is what an Appliance's spec.os says.
	Name() string
	// Untested says what of it has not been seen at work; "" for a family that runs for real.
	Untested() string
	// Template is the beginning of the names of its templates; "" is what the Cluster says.
	Template() string
	// Cockpit says why Cockpit cannot run there; "" where it can.
	Cockpit() string
	// UnitDir is where the service manager reads definitions of services.
	UnitDir() string
	// Unit is the service manager's name of a service of ours.
	Unit(ServiceName) string

	// definition is the file that tells the service manager of a service that the bundle brings.
	definition(*accepted, ServiceName) File
	// logs is the file that bounds the room for logs.
	logs(*accepted) File
	// agent is the program for its guests.
	agent() string
}

// ServiceName is one of the services of the guest, as the agent's verbs call it.
type ServiceName string

// The services.
const (
	ServiceDNSMasq ServiceName = "dnsmasq"
	ServiceCaddy   ServiceName = "caddy"
	ServiceNAT     ServiceName = "nat"
	ServiceDNSWAN  ServiceName = "dnsmasq-wan" // only where DNS is answered on the WAN
	ServiceCockpit ServiceName = "cockpit"     // only where it is asked for
)

// families are all that there are; the first is the default.
var families = []Family{debian{}, alpine{}}

// FamilyOf finds a family by its name; "" is the default.
func FamilyOf(name string) (Family, error) {
	var known []string
	for _, f := range families {
		if name == "" || name == f.Name() {
			return f, nil
		}
		known = append(known, f.Name())
	}
	return nil, fmt.Errorf("operating system %s is none of %s", quoted(name), strings.Join(known, ", "))
}

// purposes is what a service is there for, as its definition says.
var purposes = map[ServiceName]string{
	ServiceDNSMasq: "DHCP and DNS of the LAN.", ServiceCaddy: "The reverse proxy.",
	ServiceNAT: "Firewall, masquerade and forwarding.", ServiceDNSWAN: "DNS on the uplink.",
}

// services are those that the bundle brings, in the order in which guests need them.
func (a *accepted) services() []ServiceName {
	names := []ServiceName{ServiceNAT, ServiceDNSMasq, ServiceCaddy}
	if a.dnsWAN != nil {
		names = append(names, ServiceDNSWAN)
	}
	return names
}
