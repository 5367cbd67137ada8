package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const gib = int64(1) << 30

// node is one that fits everything.
func node(name string, change ...func(*Node)) Node {
	n := Node{NodeFacts: NodeFacts{
		Name: name, Online: true, Memory: 16 * gib, MemoryUsed: 2 * gib,
		Storages: []StorageFacts{{Name: "lvm", Type: "lvmthin", Content: []string{"images", "rootdir"}, Active: true, Total: 100 * gib, Used: 10 * gib, Avail: 90 * gib}},
	}, TemplateName: "debian"}
	for _, c := range change {
		c(&n)
	}
	return n
}

func used(bytes int64) func(*Node)    { return func(n *Node) { n.MemoryUsed = bytes } }
func apps(count int) func(*Node)      { return func(n *Node) { n.Apps = count } }
func template(t Template) func(*Node) { return func(n *Node) { n.Template = t } }
func storage(change func(*StorageFacts)) func(*Node) {
	return func(n *Node) {
		n.Storages = slices.Clone(n.Storages)
		change(&n.Storages[0])
	}
}

func TestPlace(t *testing.T) {
	offline := func(n *Node) { n.Online = false }
	req := Request{Memory: gib, Disk: 4 * gib, Storage: "lvm", Strict: true}
	with := func(change func(*Request)) Request {
		r := req
		change(&r)
		return r
	}
	for name, tc := range map[string]struct {
		req   Request
		nodes []Node
		want  string // the node, or the reason that blocks
		why   string // part of the reason, or of what blocks
		other string // part of why the others were not chosen
	}{
		"most memory":       {req, []Node{node("a", used(8*gib)), node("b"), node("c", used(4*gib))}, "b", "most free memory (14.0 GiB) of the 3", "a: it fits, but has less free memory (8.0 GiB)"},
		"promised counts":   {req, []Node{node("a", func(n *Node) { n.Promised = 10 * gib }), node("b", used(8*gib))}, "b", "most free memory (8.0 GiB)", "a: it fits, but has less free memory (4.0 GiB)"},
		"spread":            {with(func(r *Request) { r.Strategy = Spread }), []Node{node("a", apps(2)), node("b", apps(1), used(8*gib))}, "b", "fewest Apps (1)", "a: it fits, but has more Apps (2)"},
		"named":             {with(func(r *Request) { r.Named, r.NamedBy = "b", "spec.node" }), []Node{node("a"), node("b", used(15*gib))}, "b", "spec.node names it", "a: spec.node names node b"},
		"named, offline":    {with(func(r *Request) { r.Named, r.NamedBy = "b", "spec.node" }), []Node{node("a"), node("b", offline)}, ReasonNodeOffline, "b: it is offline", ""},
		"named, unknown":    {with(func(r *Request) { r.Named = "x" }), []Node{node("a")}, ReasonNodeNotFound, "x: there is no such node", ""},
		"only some":         {with(func(r *Request) { r.Nodes = []string{"c"} }), []Node{node("a"), node("c", used(8*gib))}, "c", "only node that fits", "a: spec.placement.nodes does not name it"},
		"not this":          {with(func(r *Request) { r.Avoid = []string{"a"} }), []Node{node("a"), node("c", used(8*gib))}, "c", "only node that fits", "a: spec.placement.avoid names it"},
		"all excluded":      {with(func(r *Request) { r.Avoid = []string{"a"} }), []Node{node("a")}, ReasonExcluded, "a: spec.placement.avoid names it", ""},
		"memory short":      {req, []Node{node("a", used(16*gib)), node("b", used(15*gib+gib/2))}, ReasonMemoryShort, "a: 0.0 GiB of memory are free of 16.0 GiB, and 1.0 GiB are needed; b: 512 MiB", ""},
		"no choice":         {with(func(r *Request) { r.Strict = false }), []Node{node("a", used(16*gib))}, "a", "the only node", ""},
		"each its reason":   {req, []Node{node("a", used(16*gib)), node("b", offline)}, ReasonNoNodeFits, "a: 0.0 GiB of memory are free of 16.0 GiB, and 1.0 GiB are needed; b: it is offline", ""},
		"maintenance":       {req, []Node{node("a", func(n *Node) { n.Maintenance = true })}, ReasonMaintenance, "a: it is in maintenance", ""},
		"cut off":           {req, []Node{node("a", func(n *Node) { n.Cut, n.CutReason = "no bridge", "BridgeNotOnNode" })}, "BridgeNotOnNode", "a: no bridge", ""},
		"not asked":         {req, []Node{node("a", func(n *Node) { n.Unread = "it did not answer" })}, ReasonNotAsked, "a: it did not answer", ""},
		"no storage":        {with(func(r *Request) { r.Storage = "x" }), []Node{node("a")}, ReasonNoStorage, "a: storage x is not there", ""},
		"storage away":      {req, []Node{node("a", storage(func(s *StorageFacts) { s.Active = false }))}, ReasonStorageDown, "not active", ""},
		"no rootdir":        {req, []Node{node("a", storage(func(s *StorageFacts) { s.Content = []string{"iso"} }))}, ReasonNoStorage, "rootdir", ""},
		"pool full":         {with(func(r *Request) { r.Strict = false }), []Node{node("a", storage(func(s *StorageFacts) { s.Used, s.Avail = 96*gib, 4*gib }))}, ReasonStorageFull, "storage lvm is 96 % full", ""},
		"metadata full":     {with(func(r *Request) { r.Strict = false }), []Node{node("a", storage(func(s *StorageFacts) { s.Metadata, s.MetadataUsed = 100, 97 }))}, ReasonStorageFull, "the metadata of storage lvm is 97 % full", ""},
		"disk does not fit": {with(func(r *Request) { r.Disk = 91 * gib }), []Node{node("a")}, ReasonStorageFull, "90.0 GiB free, and 91.0 GiB", ""},
		"disk is held":      {req, []Node{node("a", func(n *Node) { n.Held = 88 * gib })}, ReasonStorageFull, "2.0 GiB free, and 4.0 GiB", ""},
		"thin, no choice":   {with(func(r *Request) { r.Disk, r.Strict = 91*gib, false }), []Node{node("a")}, "a", "the only node", ""},
		"thick":             {with(func(r *Request) { r.Disk, r.Strict = 91*gib, false }), []Node{node("a", storage(func(s *StorageFacts) { s.Type = "lvm" }))}, ReasonStorageFull, "90.0 GiB free", ""},
		"template missing":  {req, []Node{node("a", template(TemplateMissing))}, ReasonNoTemplate, "a: template debian is not there and cannot be fetched", ""},
		"template there":    {req, []Node{node("a", template(TemplateFetchable)), node("b")}, "b", "most free memory", "a: it fits as well, but would have to fetch template debian"},
		"template perhaps":  {req, []Node{node("a", template(TemplateUnknown)), node("b", used(12*gib), template(TemplateFetchable))}, "b", "most free", "a: it fits, but it is not sure"},
		"nothing is told":   {req, []Node{node("a", func(n *Node) { n.Memory = 0 }), node("b", func(n *Node) { n.Memory = 0 })}, "a", "first of the 2", "b: it fits as well"},
		"no node":           {req, nil, ReasonNoNodeFits, "lists no node", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := Place(tc.req, tc.nodes)
			got, why := d.Node, d.Why
			if got == "" {
				got, why = d.Blocking()
			}
			if got != tc.want || !strings.Contains(why, tc.why) {
				t.Errorf("got %s (%s), want %s (%s)", got, why, tc.want, tc.why)
			}
			others := ""
			for _, o := range d.Others {
				others += o.Node + ": " + o.Text + "; "
			}
			if !strings.Contains(others, tc.other) {
				t.Errorf("others: %s, want %s", others, tc.other)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	d := Place(Request{Memory: 2 * gib, Disk: 95 * gib, Storage: "lvm", Named: "a"}, []Node{node("a", used(15*gib))})
	if d.Node != "a" || len(d.Warnings) != 2 || !strings.Contains(d.Warnings[0], "memory") || !strings.Contains(d.Warnings[1], "disk") {
		t.Errorf("%+v", d)
	}
}

func genNode(t *rapid.T, name string) Node {
	bytes := rapid.Int64Range(0, 20*gib)
	return Node{
		NodeFacts: NodeFacts{
			Name: name, Online: rapid.IntRange(0, 4).Draw(t, "online") > 0, Maintenance: rapid.IntRange(0, 5).Draw(t, "maintenance") == 0,
			Memory: bytes.Draw(t, "memory"), MemoryUsed: bytes.Draw(t, "used"),
			Storages: []StorageFacts{{
				Name: rapid.SampledFrom([]string{"lvm", "lvm", "lvm", "zfs"}).Draw(t, "storage"), Type: rapid.SampledFrom([]string{"lvmthin", "lvm", "dir"}).Draw(t, "type"),
				Content: []string{"rootdir"}, Active: rapid.IntRange(0, 5).Draw(t, "active") > 0,
				Total: 20 * gib, Used: bytes.Draw(t, "disk"), Avail: bytes.Draw(t, "avail"), Metadata: 100, MetadataUsed: rapid.Int64Range(0, 100).Draw(t, "metadata"),
			}},
		},
		Cut: rapid.SampledFrom([]string{"", "", "", "no bridge"}).Draw(t, "cut"), CutReason: "BridgeNotOnNode",
		Template: Template(rapid.IntRange(0, 3).Draw(t, "template")), Promised: rapid.Int64Range(0, 4*gib).Draw(t, "promised"), Held: rapid.Int64Range(0, 4*gib).Draw(t, "held"),
		Apps: rapid.IntRange(0, 4).Draw(t, "apps"),
	}
}

// Every node is accounted for, once; the chosen one has what must be had; no order of the
// nodes matters; and of nodes that fit none is better.
func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var nodes []Node
		var names []string
		for i := range rapid.IntRange(0, 6).Draw(t, "nodes") {
			names = append(names, fmt.Sprintf("n%d", i))
			nodes = append(nodes, genNode(t, names[i]))
		}
		some := rapid.SliceOfN(rapid.SampledFrom([]string{"n0", "n1", "n2", "n3"}), 0, 2)
		req := Request{
			Nodes: some.Draw(t, "nodes"), Avoid: some.Draw(t, "avoid"), Strategy: rapid.SampledFrom([]string{"", ByMemory, Spread}).Draw(t, "strategy"),
			Memory: rapid.Int64Range(1, 4*gib).Draw(t, "memory"), Disk: rapid.Int64Range(1, 4*gib).Draw(t, "disk"), Storage: "lvm", Strict: rapid.Bool().Draw(t, "strict"),
		}
		d := Place(req, nodes)
		var told []string
		for _, o := range d.Others {
			told = append(told, o.Node)
			if o.Text == "" {
				t.Fatalf("nothing is said of %s", o.Node)
			}
		}
		if d.Node != "" {
			told = append(told, d.Node)
		}
		slices.Sort(told)
		if !slices.Equal(told, names) {
			t.Fatalf("told of %v, there are %v", told, names)
		}
		if again := Place(req, rapid.Permutation(nodes).Draw(t, "order")); fmt.Sprint(again) != fmt.Sprint(d) {
			t.Fatalf("another order, another decision: %v, %v", d, again)
		}
		if d.Node == "" {
			if reason, text := d.Blocking(); reason == "" || text == "" {
				t.Fatal("nothing fits, and nobody says why")
			}
			for _, n := range nodes {
				if reason, _ := req.lacks(n); reason == "" {
					t.Fatalf("%s fits", n.Name)
				}
			}
			return
		}
		best := nodes[slices.IndexFunc(nodes, func(n Node) bool { return n.Name == d.Node })]
		s := best.Storages[0]
		switch {
		case !best.Online, best.Maintenance, best.Cut != "", req.Strict && best.Template == TemplateMissing, s.Name != "lvm", !s.Active, s.MetadataUsed >= 95,
			len(req.Nodes) > 0 && !slices.Contains(req.Nodes, best.Name), slices.Contains(req.Avoid, best.Name),
			req.Strict && best.Memory > 0 && best.Memory-best.MemoryUsed-best.Promised < req.Memory,
			req.Strict && s.Avail-best.Held < req.Disk:
			t.Fatalf("%s does not fit: %+v", d.Node, best)
		}
		for _, o := range d.Others {
			if o.Reason == "" {
				n := nodes[slices.IndexFunc(nodes, func(n Node) bool { return n.Name == o.Node })]
				if req.Strategy != Spread && n.Template < TemplateUnknown && n.Memory-n.MemoryUsed-n.Promised > best.Memory-best.MemoryUsed-best.Promised {
					t.Fatalf("%s has more memory than %s", n.Name, best.Name)
				}
				if req.Strategy == Spread && n.Template < TemplateUnknown && n.Apps < best.Apps {
					t.Fatalf("%s has fewer Apps than %s", n.Name, best.Name)
				}
			}
		}
		// Room that is given away is not given away again: with the guest's share taken, what
		// was reserved never exceeds what there is.
		if req.Strict && best.Memory > 0 {
			at := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == d.Node })
			nodes[at].Promised += req.Memory
			if next := Place(req, nodes); next.Node == d.Node && nodes[at].Memory-nodes[at].MemoryUsed-nodes[at].Promised < req.Memory {
				t.Fatal("the last memory was given away twice")
			}
		}
	})
}
