package kinds

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	v1alpha1 "github.com/proximity-pve/proximity/api/proximity/v1alpha1"
	"github.com/proximity-pve/proximity/pkg/resource"
)

// Bounds of an App beside those that its proto says. All of it travels into the guest in one go.
const (
	maxFilePath     = 1024
	maxArgs         = 256
	maxCommandBytes = 64 << 10
)

func defaultApp(a *v1alpha1.App) {
	spec := sub(&a.Spec)
	orText(&spec.Hostname, a.GetMetadata().GetName())
	orText(&spec.State, "Running")
	defaultResources(&spec.Resources, "8Gi")
	for _, port := range spec.Ports {
		orText(&port.Protocol, "TCP")
	}
	for _, file := range spec.Files {
		orText(&file.Mode, "0644")
		orText(&file.Owner, "root:root")
	}
	defaultAdoption(spec.GetAdopt(), &spec.ReadOnly, &spec.DeletionPolicy)
}

// defaultAdoption: what was not made by us is neither changed nor lost by a default.
func defaultAdoption(adopt bool, readOnly **bool, deletionPolicy **string) {
	if adopt {
		orText(deletionPolicy, "Orphan")
		if *readOnly == nil {
			*readOnly = proto.Bool(true)
		}
	}
	orText(deletionPolicy, "Delete")
}

func validateApp(a *v1alpha1.App, p *problems) {
	spec := orEmpty(a.Spec)
	p.hostname(spec.GetHostname(), a.GetMetadata().GetName())
	if spec.GetAdopt() && spec.Vmid == nil {
		p.required("spec.vmid", "the VMID of the guest to adopt")
	}
	validateSource(orEmpty(spec.Source), p)
	p.resources("spec.resources", spec.GetResources())
	p.reference("spec.network.applianceRef", spec.GetNetwork().GetApplianceRef())
	validateEgress(spec.GetNetwork().GetEgress(), p)
	if address := orEmpty(spec.Network).Address; address != nil {
		p.address("spec.network.address", *address, addressRule)
	}
	validatePorts(spec, p)
	validateEnv(spec.GetEnv(), p)
	validateFiles(spec.GetFiles(), p)
	validatePackages(spec.GetPackages(), p)
	validateCommands(spec.GetCommands(), p)
	validateHealthCheck(spec, p)
}

func validateSource(source *v1alpha1.AppSource, p *problems) {
	switch {
	case source.Image != nil && source.Template != nil:
		p.unsupported("spec.source.image", source.GetImage(), "spec.source has either a template or an image; leave one out")
	case source.Image != nil:
		p.unsupported("spec.source.image", source.GetImage(), "images are not supported by this version; use spec.source.template, or leave the source out for the cluster's default template")
	}
}

func validatePorts(spec *v1alpha1.AppSpec, p *problems) {
	type number struct {
		port     int32
		protocol string
	}
	taken := make(map[number]int, len(spec.GetPorts()))
	for i, port := range spec.GetPorts() {
		if name := port.GetName(); name != "" && !resource.IsDNSLabel(name) { // none: said by the list's keys
			p.label(resource.IndexPath("spec.ports", i)+".name", name)
		}
		if port.Port == nil {
			continue // said by the proto's rules
		}
		id := number{port.GetPort(), port.GetProtocol()}
		if first, dup := taken[id]; dup {
			p.add(resource.Duplicate(resource.IndexPath("spec.ports", i)+".port", fmt.Sprintf("%d/%s", id.port, id.protocol), resource.IndexPath("spec.ports", first)))
		} else {
			taken[id] = i
		}
	}
	if spec.WebPort != nil {
		p.tcpPort("spec.webPort", spec.GetWebPort(), spec.GetPorts())
	}
}

// tcpPort checks that a name is the one of a TCP port of the App.
func (p *problems) tcpPort(at, name string, ports []*v1alpha1.AppPort) {
	var names []string
	for _, port := range ports {
		if port.GetProtocol() != "UDP" {
			names = append(names, port.GetName())
		}
	}
	switch {
	case slices.Contains(names, name):
	case len(names) == 0:
		p.invalid(at, name, "the name of a TCP port of spec.ports, which has none")
	default:
		p.invalid(at, name, "the name of a TCP port of spec.ports: "+strings.Join(names, ", "))
	}
}

// WebPort returns the port that serves the App's web page: the one that spec.webPort names
// or else the one named http; nil when there is none.
func WebPort(spec *v1alpha1.AppSpec) *v1alpha1.AppPort {
	name := "http"
	if spec.GetWebPort() != "" {
		name = spec.GetWebPort()
	}
	return PortNamed(spec, name)
}

// PortNamed returns the TCP port of an App by its name or number; nil when there is none.
func PortNamed(spec *v1alpha1.AppSpec, name string) *v1alpha1.AppPort {
	for _, port := range spec.GetPorts() {
		if port.GetProtocol() != "UDP" && (port.GetName() == name || strconv.Itoa(int(port.GetPort())) == name) {
			return port
		}
	}
	return nil
}

func validateEnv(env []*v1alpha1.EnvVar, p *problems) {
	for i, v := range env {
		switch {
		case v.ValueFrom != nil && v.Value != nil:
			p.unsupported(resource.IndexPath("spec.env", i)+".valueFrom", "", "a variable has either a value or valueFrom; leave one out")
		case v.ValueFrom != nil && v.ValueFrom.SecretKeyRef == nil:
			p.required(resource.IndexPath("spec.env", i)+".valueFrom.secretKeyRef", "the name of a Secret and a key")
		}
	}
}

func validateFiles(files []*v1alpha1.AppFile, p *problems) {
	for i, f := range files {
		if name := f.GetPath(); name != "" && (!path.IsAbs(name) || path.Clean(name) != name || name == "/" || len(name) > maxFilePath) {
			p.invalid(resource.IndexPath("spec.files", i)+".path", name, "an absolute path of a file, without . or .. or doubled slashes in it")
		}
	}
}

func validatePackages(packages []string, p *problems) {
	first := make(map[string]int, len(packages))
	for i, name := range packages {
		bare, _, _ := strings.Cut(name, "=")
		if j, dup := first[bare]; dup {
			p.add(resource.Duplicate(resource.IndexPath("spec.packages", i), bare, resource.IndexPath("spec.packages", j)))
		} else {
			first[bare] = i
		}
	}
}

func validateCommands(commands []*v1alpha1.AppCommand, p *problems) {
	for i, c := range commands {
		at := resource.IndexPath("spec.commands", i) + ".argv"
		size := 0
		for _, arg := range c.GetArgv() {
			size += len(arg) + 1
		}
		switch argv := c.GetArgv(); {
		case len(argv) == 0: // said by the proto's rules
		case len(argv) > maxArgs || size > maxCommandBytes:
			p.invalid(at, fmt.Sprintf("%d arguments, %d bytes", len(argv), size), fmt.Sprintf("at most %d arguments of %d bytes together", maxArgs, maxCommandBytes))
		case strings.TrimSpace(argv[0]) == "":
			p.invalid(at+"[0]", argv[0], "the name or path of a program")
		}
	}
}

func validateHealthCheck(spec *v1alpha1.AppSpec, p *problems) {
	check := spec.GetHealthCheck()
	if check == nil {
		return
	}
	switch {
	case check.Port != nil:
		p.tcpPort("spec.healthCheck.port", check.GetPort(), spec.GetPorts())
	case WebPort(spec) == nil:
		p.required("spec.healthCheck.port", "the name of a TCP port of spec.ports, as the App has no web port")
	}
}

// relateApp checks a fixed address against the network that the App names.
func relateApp(a *v1alpha1.App, view resource.View, p *problems) {
	network := a.GetSpec().GetNetwork()
	address, err := netip.ParseAddr(network.GetAddress())
	if err != nil || network.GetApplianceRef().GetName() == "" {
		return // the controller knows the appliance of an App that names none
	}
	o, _ := view.Get(resource.Key{Kind: "Appliance", Name: network.GetApplianceRef().GetName()})
	appliance, _ := o.(*v1alpha1.Appliance)
	o, _ = view.Get(resource.Key{Kind: "Bridge", Name: appliance.GetSpec().GetBridgeRef().GetName()})
	bridge, _ := o.(*v1alpha1.Bridge)
	subnet, err := netip.ParsePrefix(bridge.GetSpec().GetSubnet())
	if err != nil {
		return
	}
	if !usableIn(subnet, address) || address.String() == appliance.GetSpec().GetLan().GetAddress() {
		p.invalid("spec.network.address", address, fmt.Sprintf("a host address inside %s, the subnet of Bridge %s, other than the appliance's %s",
			subnet, bridge.GetMetadata().GetName(), appliance.GetSpec().GetLan().GetAddress()))
	}
}

func claimsOfApp(a *v1alpha1.App) []resource.Claim {
	var claims []resource.Claim
	network := "appliance " + a.GetSpec().GetNetwork().GetApplianceRef().GetName()
	if vmid := a.GetSpec().GetVmid(); vmid != 0 {
		claims = append(claims, resource.Claim{Path: "spec.vmid", Space: "VMID of Apps on " + network, Value: fmt.Sprint(vmid)})
	}
	if address := a.GetSpec().GetNetwork().GetAddress(); address != "" {
		claims = append(claims, resource.Claim{Path: "spec.network.address", Space: "address of Apps on " + network, Value: address})
	}
	return claims
}
