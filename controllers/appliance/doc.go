// Package appliance reconciles kind Appliance: the guest that serves a Bridge's network.
//
// Reads: Appliance, Bridge, Cluster, App and Vhost (all Apps and Vhosts that it serves are
// rendered into its configuration).
//
// Owns outside: one LXC guest, by tags and the block in its description; inside the guest
// everything below /etc/proximity and the units proximity-*, by the header of the files.
//
// Finalizer: proximity/appliance. Deletion waits until no App and no Vhost uses the
// appliance, then destroys the guest.
//
// Conditions, in order: Reserved (VMID and MAC addresses), Placed (a node was chosen), TemplateReady, GuestCreated,
// GuestRunning, PackagesInstalled, NetworkReady (addresses on both sides), ConfigurationApplied,
// DNSReady (DHCP and DNS), ProxyReady, NATReady.
//
// Beside them, and no part of Ready: InSync (settings that were changed by hand, with
// driftPolicy warn or ignore), Unique (no copy of the guest), RestartPending (settings that count
// from the guest's next start on), UpstreamReachable (names that are not ours), DiskSpace, FamilyTested (an operating
// system that has not run for real), StateKept (with
// repair Rebuild), Repaired (while services are down: what is done about it, and what is not allowed).
//
// Reasons: Drifted, InSync, ReadOnly, GuestToAdoptMissing, GuestToAdoptWeaker, Adopted, CopyFound, Unique, PendingChanges, NothingPending, BridgeNotFound, BridgeNotReady, AddressOutsideSubnet, RangeOutsideSubnet, VMIDTaken,
// VMIDIsCopy, UIDElsewhere, UIDUnknown, NotReserved, GuestsNotVisible, DiskCannotShrink, TemplateMissing, NoTemplateStorage, Fetching, TemplateFetching,
// TemplateFetchFailed, TemplateChecksumMismatch, Reserved, Present, Missing, Created, Running, Starting, Stopping,
// Locked, Protected, NodeOffline,
// NotRunning, Installed, Installing, InstallFailed, Addressed, NoUplinkAddress, NoLANAddress,
// Applied, ApplyFailed, RenderFailed, Serving, NotServing, Disabled, InUse, GuestUnreachable,
// GuestRestarted, MulticastDNS, Untested, UnknownFamily, Refused, Open,
// Answering, NoAnswer, NotAsked, Enough, AlmostFull,
// Rebuilding, Kept, NotKept, Restarting, Repairing, NotAllowed, NotBooted.
//
// Services that are down for long, although the service manager starts them and their
// configuration is repaired, have the guest booted (repair.go), with growing pauses. Where
// spec.repair allows it, a guest that three boots did not help is made anew (rebuild.go), with
// its leases and certificates from a copy that is taken while it works; without one it is not.
//
// Steps (plan.go): those of the guest (package lxc), InstallPackages and Configure.
//
// What cannot be known, as the node or the guest is away, is Unknown, with the reason and the time of
// the last look. A guest in which no command can be run is asked after 0.5 s, 1 s, 2 s and so on, and
// from then on every 15 s (silence.go).
//
// One call into the guest per probe period observes everything; a second one changes it
// when something differs. What was seen is published on the live.Board for the controllers
// of Apps and Vhosts.
package appliance
