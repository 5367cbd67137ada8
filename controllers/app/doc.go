// Package app reconciles kind App: an application in an unprivileged LXC guest on an
// appliance's network.
//
// Reads: App, Appliance, Bridge, Cluster, Vhost, Secret.
//
// Owns outside: one LXC guest, by tags and the block in its description; inside the guest
// the files that spec.files names and a marker below /var/lib/proximity.
//
// Finalizer: proximity/app. Deletion destroys the guest (deletionPolicy Delete); its lease
// and DNS records go with the next configuration of the appliance.
//
// Conditions, in order, the steps of a deployment: Reserved (VMID, MAC and IP address),
// Placed (a node was chosen), TemplateReady, GuestCreated, GuestRunning, NetworkReady (the guest has its address by DHCP),
// DNSReady (the appliance serves its names), Provisioned (packages, files, commands),
// ProxyReady (its Vhosts, if any, are served), Healthy.
//
// While the guest is on the uplink (fallback.go, guard.go) NetworkReady and DNSReady say OnUplink, and
// the App is not ready.
//
// Beside them, and no part of Ready: Fallback (IsolationLost, OnUplink, Waiting, TooManyMoves, NotNeeded), Unique (no copy of the guest), InSync (settings that were
// changed by hand, with driftPolicy warn or ignore), RestartPending (settings that count from
// the next start on).
//
// Reasons: ApplianceNotFound, ApplianceNotChosen, ApplianceNotReady, AddressesExhausted,
// AddressOutsideSubnet, AddressTaken, VMIDsExhausted, VMIDTaken, VMIDIsCopy, UIDElsewhere, UIDUnknown,
// NotReserved, GuestsNotVisible, CopyFound, Unique, ReadOnly, GuestToAdoptMissing, GuestToAdoptWeaker, Drifted, InSync, PendingChanges, NothingPending,
// DiskCannotShrink, TemplateMissing, NoTemplateStorage, Fetching, TemplateFetching,
// TemplateFetchFailed, TemplateChecksumMismatch, Reserved, Present, Missing, Created, Running, Starting, Stopping, Stopped, NotRunning, Locked,
// Protected, NodeOffline, Placed, Moved, and when no node fits NoNodeFits or, where all lack the same, NodeNotFound,
// NodeInMaintenance, NodeNotAsked, NodeExcluded, StorageMissing, StorageInactive, StorageFull, MemoryShort, ApplianceNotPlaced, BridgeNotOnNode, ApplianceOnOtherNode, Addressed,
// NoAddress, WrongAddress, Served, NotServed, Provisioned, Installing, ProvisionFailed,
// NotRequested, NotReady, Healthy, NoCheck, Unhealthy, AddressConflict, GuestUnreachable, Queued.
//
// What looking costs: nothing of its own for an App that is as it should be (package bulk). One
// that is new costs two requests of its own, to create and to start its guest, when many come at
// once; what else is asked is asked for all of them. Alone it costs some more.
// Applications are asked by the one call that the appliance's probe makes; only those that
// do not answer it well are asked one by one, 8 at a time with 3 s for each.
//
// Steps (plan.go): those of the guest (package lxc), ServeNames and DropNames, which the
// appliance takes, and Provision.
//
// An environment variable may come from a Secret. As long as that is missing, Provisioned is
// False with the reason of package secretref (SecretNotFound, SecretKeyNotFound, ...), and a
// guest that runs goes on with what it has; a new value provisions again.
//
// The guest is started only when the appliance serves DHCP and DNS. Provisioning runs
// again when packages, files, environment or commands change; a crash between the last
// command and the marker in the guest runs the commands again, so they must bear that.
package app
