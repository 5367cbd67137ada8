package embedded

// The modelled world. 192.168.50.0/24 stands for the network that a Proxmox VE node is
// plugged into; 203.0.113.0/24 is reserved for documentation (RFC 5737).
const (
	uplinkBridge = "vmbr0"
	uplinkPort   = "eno1" // the node's "network card"
	nodeCIDR     = "192.168.50.2/24"
	routerIP     = "192.168.50.1"
	routerCIDR   = routerIP + "/24"
	uplinkNet    = "192.168.50.0/24"
	dhcpFirst    = "192.168.50.100"
	dhcpLast     = "192.168.50.199"
	routerWAN    = "203.0.113.1/24"
	routerWANIP  = "203.0.113.1"
	internetIP   = "203.0.113.10"
	internetCIDR = internetIP + "/24"
)
