// Package e2e tests the product as its users have it: the built programs, started as
// processes, with real LXC containers on an embedded node, looked at and broken from
// outside with nsenter, lxc-attach, curl and kill.
//
// Which stories run is chosen by PROXIMITY_E2E: "quick" is the quickstart alone, "all" is
// everything, unset is none of those that need containers. With PROXIMITY_REQUIRE_LXC=1
// a machine without containers fails them instead of skipping.
package e2e
