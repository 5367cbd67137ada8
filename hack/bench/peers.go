package main

import "fmt"

// peer is what another system did at the same work, measured once on one machine with 2
// processors where load, server and disk shared them. The yardstick of a run is what makes
// two machines comparable; a peer's figure says where others are.
type peer struct {
	name  string
	value float64 // in the figure's unit
}

const (
	kube    = "kube-apiserver and etcd"
	kubectl = "kubectl with " + kube
)

// peers by the name of the figure.
var peers = map[string]peer{
	"api/apply-1":                {kube, 3.4},
	"api/apply-64":               {kube, 411},
	"api/apply-64-p99":           {kube, 399},
	"api/list-grpc-10000":        {kube, 1146},
	"api/list-rest-10000":        {kube, 1146},
	"watch/200-p50":              {kube, 9.7},
	"watch/200-p99":              {kube, 70.7},
	"cli/apply-1000-new":         {kubectl, 5.9},
	"cli/apply-1000-unchanged":   {kubectl, 6.1},
	"cli/apply-10000-new":        {kubectl + ", from 1,000", 58},
	"idle/rss":                   {kube, 286},
	"memory/idle":                {kube, 286},
	"restart/rss-10000":          {kube, 957},
	"memory/50000-status-writes": {kube, 3100},
	"restart/first-list-10000":   {kube, 8700},
	"converge/10000":             {"controller-runtime, 16 workers", 43.6},
	"converge/10000-per-object":  {"controller-runtime", 2},
	"store/writes-1":             {"etcd, over the network", 1412},
	"store/writes-64":            {"etcd, over the network", 11_700},
	"store/writes-256":           {"etcd, over the network", 14_406},
}

// text says how far the value is from the peer's, "" when there is no peer.
func (p peer) text(value float64, unit string) string {
	if p.value == 0 || value == 0 {
		return ""
	}
	return fmt.Sprintf("peer: %s %s %s, this is %sx of it", p.name, number(p.value), unit, number(value/p.value))
}
