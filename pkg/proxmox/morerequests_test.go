package proxmox

import "context"

func boolRef(v bool) *Bool { b := Bool(v); return &b }

func ref[T any](v T) *T { return &v }

const someBackup = "local:backup/vzdump-lxc-200-2026_11_23-09_25_42.tar.zst"

// moreRequests are the endpoints beyond what a guest's plain life needs.
var moreRequests = []requestCase{
	{"PermissionsOn", func(ctx context.Context, c *Client) error {
		_, err := c.PermissionsOn(ctx, "/vms/100", "a@pve!svc")
		return err
	}, "GET", "/access/permissions", "path=%2Fvms%2F100&userid=a%40pve%21svc"},
	{"Users", func(ctx context.Context, c *Client) error { _, err := c.Users(ctx); return err }, "GET", "/access/users", "full=1"},
	{"UserTokens", func(ctx context.Context, c *Client) error { _, err := c.UserTokens(ctx, "a@pve"); return err }, "GET", "/access/users/a@pve/token", ""},
	{"ACL", func(ctx context.Context, c *Client) error { _, err := c.ACL(ctx); return err }, "GET", "/access/acl", ""},
	{"RolePrivileges", func(ctx context.Context, c *Client) error { _, err := c.RolePrivileges(ctx, "Proximity"); return err }, "GET", "/access/roles/Proximity", ""},
	{"Certificates", func(ctx context.Context, c *Client) error { _, err := c.Certificates(ctx, "pve"); return err }, "GET", "/nodes/pve/certificates/info", ""},
	{"Capabilities", func(ctx context.Context, c *Client) error { _, err := c.Capabilities(ctx, "pve"); return err }, "GET", "/cluster/sdn/zones", ""},
	{"packages", func(ctx context.Context, c *Client) error { _, err := c.packages(ctx, "pve"); return err }, "GET", "/nodes/pve/apt/versions", ""},
	{"NodeTime", func(ctx context.Context, c *Client) error { _, err := c.NodeTime(ctx, "pve"); return err }, "GET", "/nodes/pve/time", ""},
	{"ClusterOptions", func(ctx context.Context, c *Client) error { _, err := c.ClusterOptions(ctx); return err }, "GET", "/cluster/options", ""},
	{"ClusterTasks", func(ctx context.Context, c *Client) error { _, err := c.ClusterTasks(ctx); return err }, "GET", "/cluster/tasks", ""},

	{"CloneLXC", func(ctx context.Context, c *Client) error {
		_, err := c.CloneLXC(ctx, "pve", 100, LXCClone{NewID: 101, Hostname: "b", Description: "d", Pool: "p", Snapshot: "s1", Full: true, Storage: "local-lvm", Target: "pve2"})
		return err
	}, "POST", "/nodes/pve/lxc/100/clone", "description=d&full=1&hostname=b&newid=101&pool=p&snapname=s1&storage=local-lvm&target=pve2"},
	{"MigrateLXC", func(ctx context.Context, c *Client) error {
		_, err := c.MigrateLXC(ctx, "pve", 100, LXCMigrate{Target: "pve2", Restart: true, Timeout: 90e9, TargetStorage: "1"})
		return err
	}, "POST", "/nodes/pve/lxc/100/migrate", "restart=1&target=pve2&target-storage=1&timeout=90"},
	{"TemplateLXC", func(ctx context.Context, c *Client) error { return c.TemplateLXC(ctx, "pve", 100) }, "POST", "/nodes/pve/lxc/100/template", ""},
	{"MoveVolumeLXC", func(ctx context.Context, c *Client) error {
		_, err := c.MoveVolumeLXC(ctx, "pve", 100, VolumeMove{Volume: "mp0", Guest: 101, GuestVolume: "mp0", Digest: "a", GuestDigest: "b"})
		return err
	}, "POST", "/nodes/pve/lxc/100/move_volume", "digest=a&target-digest=b&target-vmid=101&target-volume=mp0&volume=mp0"},
	{"MoveVolumeLXC to a storage", func(ctx context.Context, c *Client) error {
		_, err := c.MoveVolumeLXC(ctx, "pve", 100, VolumeMove{Volume: "rootfs", Storage: "local", Delete: true})
		return err
	}, "POST", "/nodes/pve/lxc/100/move_volume", "delete=1&storage=local&volume=rootfs"},
	{"HasFeature", func(ctx context.Context, c *Client) error {
		_, err := c.HasFeature(ctx, "pve", 100, FeatureSnapshot)
		return err
	}, "GET", "/nodes/pve/lxc/100/feature", "feature=snapshot"},
	{"LXCConfigNow", func(ctx context.Context, c *Client) error { _, err := c.LXCConfigNow(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/config", "current=1"},

	{"Snapshots", func(ctx context.Context, c *Client) error { _, err := c.Snapshots(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/snapshot", ""},
	{"CreateSnapshot", func(ctx context.Context, c *Client) error {
		_, err := c.CreateSnapshot(ctx, "pve", 100, "s1", "before")
		return err
	}, "POST", "/nodes/pve/lxc/100/snapshot", "description=before&snapname=s1"},
	{"RollbackSnapshot", func(ctx context.Context, c *Client) error {
		_, err := c.RollbackSnapshot(ctx, "pve", 100, "s1", true)
		return err
	}, "POST", "/nodes/pve/lxc/100/snapshot/s1/rollback", "start=1"},
	{"DeleteSnapshot", func(ctx context.Context, c *Client) error {
		_, err := c.DeleteSnapshot(ctx, "pve", 100, "s1", true)
		return err
	}, "DELETE", "/nodes/pve/lxc/100/snapshot/s1", "force=1"},

	{"Vzdump", func(ctx context.Context, c *Client) error {
		_, err := c.Vzdump(ctx, "pve", Vzdump{VMIDs: []int{100, 101}, Storage: "local", Mode: BackupStop, Compress: "zstd", Notes: "{{guestname}}", Protected: true})
		return err
	}, "POST", "/nodes/pve/vzdump", "compress=zstd&mode=stop&notes-template=%7B%7Bguestname%7D%7D&protected=1&remove=0&storage=local&vmid=100%2C101"},
	{"Vzdump with pruning", func(ctx context.Context, c *Client) error {
		_, err := c.Vzdump(ctx, "pve", Vzdump{VMIDs: []int{100}, Storage: "local", Prune: "keep-last=3"})
		return err
	}, "POST", "/nodes/pve/vzdump", "prune-backups=keep-last%3D3&storage=local&vmid=100"},
	{"Backups", func(ctx context.Context, c *Client) error { _, err := c.Backups(ctx, "pve", "local", 100); return err }, "GET", "/nodes/pve/storage/local/content", "content=backup&vmid=100"},
	{"BackupConfig", func(ctx context.Context, c *Client) error {
		_, err := c.BackupConfig(ctx, "pve", someBackup)
		return err
	}, "GET", "/nodes/pve/vzdump/extractconfig",
		"volume=local%3Abackup%2Fvzdump-lxc-200-2026_11_23-09_25_42.tar.zst"},
	{"RestoreLXC", func(ctx context.Context, c *Client) error {
		_, err := c.RestoreLXC(ctx, "pve", LXCRestore{VMID: 200, Backup: someBackup, Storage: "local-lvm", Replace: true, Unique: true, Unprivileged: true,
			Hostname: "h", Pool: "p", Start: true, Extra: map[string]string{"memory": "64"}})
		return err
	}, "POST", "/nodes/pve/lxc", "force=1&hostname=h&memory=64&ostemplate=local%3Abackup%2Fvzdump-lxc-200-2026_11_23-09_25_42.tar.zst&pool=p&restore=1&start=1&storage=local-lvm&unique=1&unprivileged=1&vmid=200"},
	{"UpdateVolume", func(ctx context.Context, c *Client) error {
		return c.UpdateVolume(ctx, "pve", someBackup, VolumeNotes{Notes: ref(""), Protected: ref(false)})
	}, "PUT", "/nodes/pve/storage/local/content/" + someBackup, "notes=&protected=0"},
	{"DeleteVolume", func(ctx context.Context, c *Client) error {
		_, err := c.DeleteVolume(ctx, "pve", someBackup)
		return err
	}, "DELETE",
		"/nodes/pve/storage/local/content/" + someBackup, ""},

	{"StorageStatus", func(ctx context.Context, c *Client) error { _, err := c.StorageStatus(ctx, "pve", "local"); return err }, "GET", "/nodes/pve/storage/local/status", ""},
	{"StorageDefinitions", func(ctx context.Context, c *Client) error { _, err := c.StorageDefinitions(ctx); return err }, "GET", "/storage", ""},
	{"DownloadURL", func(ctx context.Context, c *Client) error {
		_, err := c.DownloadURL(ctx, "pve", "local", Download{URL: "https://example.org/a.tar.zst", Filename: "a.tar.zst", Content: ContentTemplate, Checksum: "00", Algorithm: "sha256"})
		return err
	}, "POST", "/nodes/pve/storage/local/download-url", "checksum=00&checksum-algorithm=sha256&content=vztmpl&filename=a.tar.zst&url=https%3A%2F%2Fexample.org%2Fa.tar.zst"},
	{"OCITags", func(ctx context.Context, c *Client) error {
		_, err := c.OCITags(ctx, "pve", "docker.io/library/nginx")
		return err
	}, "GET", "/nodes/pve/query-oci-repo-tags", "reference=docker.io%2Flibrary%2Fnginx"},
	{"PullOCI", func(ctx context.Context, c *Client) error {
		_, err := c.PullOCI(ctx, "pve", "local", "docker.io/library/nginx:1.27", "nginx_1.27")
		return err
	}, "POST", "/nodes/pve/storage/local/oci-registry-pull", "filename=nginx_1.27&reference=docker.io%2Flibrary%2Fnginx%3A1.27"},

	{"SDNZones", func(ctx context.Context, c *Client) error { _, err := c.SDNZones(ctx, SDNPending); return err }, "GET", "/cluster/sdn/zones", "pending=1"},
	{"SDNVNets", func(ctx context.Context, c *Client) error { _, err := c.SDNVNets(ctx, SDNRunning); return err }, "GET", "/cluster/sdn/vnets", "running=1"},
	{"SDNSubnets", func(ctx context.Context, c *Client) error {
		_, err := c.SDNSubnets(ctx, "proxnet", SDNStaged)
		return err
	}, "GET", "/cluster/sdn/vnets/proxnet/subnets", ""},
	{"NodeSDNZones", func(ctx context.Context, c *Client) error { _, err := c.NodeSDNZones(ctx, "pve"); return err }, "GET", "/nodes/pve/sdn/zones", ""},
	{"CreateSDNZone", func(ctx context.Context, c *Client) error {
		return c.CreateSDNZone(ctx, SDNZone{Zone: "prox", Type: "simple", IPAM: "pve", DHCP: "dnsmasq", Nodes: "pve", MTU: 1400})
	}, "POST", "/cluster/sdn/zones", "dhcp=dnsmasq&ipam=pve&mtu=1400&nodes=pve&type=simple&zone=prox"},
	{"SDNZone", func(ctx context.Context, c *Client) error { _, err := c.SDNZone(ctx, "prox"); return err }, "GET", "/cluster/sdn/zones/prox", ""},
	{"SDNControllers", func(ctx context.Context, c *Client) error {
		_, err := c.SDNControllers(ctx, SDNPending)
		return err
	}, "GET", "/cluster/sdn/controllers", "pending=1"},
	{"NodeSDNVNets", func(ctx context.Context, c *Client) error {
		_, err := c.NodeSDNVNets(ctx, "pve", "prox")
		return err
	}, "GET", "/nodes/pve/sdn/zones/prox/content", ""},
	{"UpdateSDNZone", func(ctx context.Context, c *Client) error {
		return c.UpdateSDNZone(ctx, "prox", SDNUpdate{Set: map[string]string{"peers": "10.0.0.1,10.0.0.2"}, Delete: []string{"mtu", "dhcp"}})
	}, "PUT", "/cluster/sdn/zones/prox", "delete=mtu%2Cdhcp&peers=10.0.0.1%2C10.0.0.2"},
	{"UpdateSDNVNet", func(ctx context.Context, c *Client) error {
		return c.UpdateSDNVNet(ctx, "proxnet", SDNUpdate{Set: map[string]string{"tag": "8"}})
	}, "PUT", "/cluster/sdn/vnets/proxnet", "tag=8"},
	{"DeleteSDNZone", func(ctx context.Context, c *Client) error { return c.DeleteSDNZone(ctx, "prox") }, "DELETE", "/cluster/sdn/zones/prox", ""},
	{"CreateSDNVNet", func(ctx context.Context, c *Client) error {
		return c.CreateSDNVNet(ctx, SDNVNet{VNet: "proxnet", Zone: "prox", Alias: "ours", Tag: 7, VLANAware: true})
	}, "POST", "/cluster/sdn/vnets", "alias=ours&tag=7&vlanaware=1&vnet=proxnet&zone=prox"},
	{"DeleteSDNVNet", func(ctx context.Context, c *Client) error { return c.DeleteSDNVNet(ctx, "proxnet") }, "DELETE", "/cluster/sdn/vnets/proxnet", ""},
	{"CreateSDNSubnet", func(ctx context.Context, c *Client) error {
		return c.CreateSDNSubnet(ctx, SDNSubnet{VNet: "proxnet", CIDR: "10.77.0.0/24", Gateway: "10.77.0.1", SNAT: true})
	}, "POST", "/cluster/sdn/vnets/proxnet/subnets", "gateway=10.77.0.1&snat=1&subnet=10.77.0.0%2F24&type=subnet"},
	{"DeleteSDNSubnet", func(ctx context.Context, c *Client) error {
		return c.DeleteSDNSubnet(ctx, "proxnet", "prox-10.77.0.0-24")
	}, "DELETE", "/cluster/sdn/vnets/proxnet/subnets/prox-10.77.0.0-24", ""},
	{"ApplySDN", func(ctx context.Context, c *Client) error { _, err := c.ApplySDN(ctx); return err }, "PUT", "/cluster/sdn", ""},

	{"ClusterFirewall", func(ctx context.Context, c *Client) error { _, err := c.ClusterFirewall(ctx); return err }, "GET", "/cluster/firewall/options", ""},
	{"SetClusterFirewall", func(ctx context.Context, c *Client) error {
		return c.SetClusterFirewall(ctx, ClusterFirewall{Enable: true, PolicyIn: FirewallAccept, PolicyOut: FirewallAccept, Digest: "d"})
	}, "PUT", "/cluster/firewall/options", "digest=d&enable=1&policy_in=ACCEPT&policy_out=ACCEPT"},
	{"GuestFirewall", func(ctx context.Context, c *Client) error { _, err := c.GuestFirewall(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/firewall/options", ""},
	{"SetGuestFirewall", func(ctx context.Context, c *Client) error {
		return c.SetGuestFirewall(ctx, "pve", 100, GuestFirewall{Enable: true, PolicyIn: FirewallDrop, IPFilter: true, MACFilter: boolRef(false), Digest: "d"})
	}, "PUT", "/nodes/pve/lxc/100/firewall/options", "dhcp=0&digest=d&enable=1&ipfilter=1&macfilter=0&policy_in=DROP"},
	{"GuestRules", func(ctx context.Context, c *Client) error { _, err := c.GuestRules(ctx, "pve", 100); return err }, "GET", "/nodes/pve/lxc/100/firewall/rules", ""},
	{"AddGuestRule", func(ctx context.Context, c *Client) error {
		return c.AddGuestRule(ctx, "pve", 100, FirewallRule{Type: "in", Action: FirewallAccept, Enable: true, Proto: "tcp", DPort: "80,443", Source: "10.20.0.1", Iface: "net0", Comment: "ours", Digest: "d"})
	}, "POST", "/nodes/pve/lxc/100/firewall/rules", "action=ACCEPT&comment=ours&digest=d&dport=80%2C443&enable=1&iface=net0&proto=tcp&source=10.20.0.1&type=in"},
	{"DeleteGuestRule", func(ctx context.Context, c *Client) error { return c.DeleteGuestRule(ctx, "pve", 100, 0, "d") }, "DELETE", "/nodes/pve/lxc/100/firewall/rules/0", "digest=d"},

	{"Pools", func(ctx context.Context, c *Client) error { _, err := c.Pools(ctx); return err }, "GET", "/pools", ""},
	{"Pool", func(ctx context.Context, c *Client) error { _, err := c.Pool(ctx, "proximity"); return err }, "GET", "/pools/proximity", ""},
	{"CreatePool", func(ctx context.Context, c *Client) error { return c.CreatePool(ctx, "proximity", "ours") }, "POST", "/pools", "comment=ours&poolid=proximity"},
	{"UpdatePool", func(ctx context.Context, c *Client) error {
		return c.UpdatePool(ctx, "proximity", PoolUpdate{VMIDs: []int{100}, Storages: []string{"local"}, Remove: true, Comment: "c"})
	}, "PUT", "/pools/proximity", "comment=c&delete=1&storage=local&vms=100"},
	{"UpdatePool in another", func(ctx context.Context, c *Client) error {
		return c.UpdatePool(ctx, "a/b", PoolUpdate{VMIDs: []int{100}})
	}, "PUT", "/pools", "poolid=a%2Fb&vms=100"},
	{"DeletePool", func(ctx context.Context, c *Client) error { return c.DeletePool(ctx, "proximity") }, "DELETE", "/pools/proximity", ""},
	{"DeletePool in another", func(ctx context.Context, c *Client) error { return c.DeletePool(ctx, "a/b") }, "DELETE", "/pools", "poolid=a%2Fb"},
	{"HAStatus", func(ctx context.Context, c *Client) error { _, err := c.HAStatus(ctx); return err }, "GET", "/cluster/ha/status/current", ""},
	{"HAResources", func(ctx context.Context, c *Client) error { _, err := c.HAResources(ctx); return err }, "GET", "/cluster/ha/resources", ""},

	{"LXCSamples", func(ctx context.Context, c *Client) error {
		_, err := c.LXCSamples(ctx, "pve", 100, LastHour)
		return err
	}, "GET", "/nodes/pve/lxc/100/rrddata", "cf=AVERAGE&timeframe=hour"},
	{"NodeSamples", func(ctx context.Context, c *Client) error { _, err := c.NodeSamples(ctx, "pve", LastDay); return err }, "GET", "/nodes/pve/rrddata", "cf=AVERAGE&timeframe=day"},
	{"StorageSamples", func(ctx context.Context, c *Client) error {
		_, err := c.StorageSamples(ctx, "pve", "local", LastYear)
		return err
	}, "GET", "/nodes/pve/storage/local/rrddata", "cf=AVERAGE&timeframe=year"},
	{"Termproxy", func(ctx context.Context, c *Client) error { _, err := c.Termproxy(ctx, "pve", 100); return err }, "POST", "/nodes/pve/lxc/100/termproxy", ""},
	{"VNCProxy", func(ctx context.Context, c *Client) error { _, err := c.VNCProxy(ctx, "pve", 100); return err }, "POST", "/nodes/pve/lxc/100/vncproxy", "websocket=1"},
	{"DialConsole", func(ctx context.Context, c *Client) error {
		o, err := c.DialConsole(ctx, "pve", 100, ConsoleTicket{User: "a@pve", Ticket: "PVEVNC:0::x", Port: 5900})
		if err == nil {
			o.Close()
		}
		return err
	}, "GET", "/nodes/pve/lxc/100/vncwebsocket", "port=5900&vncticket=PVEVNC%3A0%3A%3Ax"},
}

func init() { requests = append(requests, moreRequests...) }
