package placement

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Strategies.
const (
	ByMemory = "memory"
	Spread   = "spread"
)

// Request is what is asked for.
type Request struct {
	// Named is the node that a human named, "" for none. Then Nodes and Avoid do not count.
	// NamedBy is where, for people.
	Named, NamedBy string
	Nodes          []string // empty: all
	Avoid          []string
	// Strategy is ByMemory or Spread; "" is ByMemory.
	Strategy string
	// Memory and Disk are what the guest may take, in bytes.
	Memory, Disk int64
	Storage      string // of the root file system
	// Strict demands room for all of that.
	Strict bool
}

// Template says whether a node has the template.
type Template int

// Whether a node has the template, from best to worst.
const (
	TemplatePresent Template = iota
	// TemplateFetchable: it has a source.
	TemplateFetchable
	// TemplateUnknown: it is not there, and nobody has looked into the node's index.
	TemplateUnknown
	TemplateMissing
)

// Node is a node with what is known of it for a request.
type Node struct {
	NodeFacts
	// Cut says why the network does not lead there, "" when it does; CutReason is that for
	// programs.
	Cut, CutReason string
	Template       Template
	// TemplateName is what people call it.
	TemplateName string
	// Promised is memory that guests of ours were promised and do not use yet. Held is the
	// disk on Request.Storage that is reserved and not taken yet.
	Promised, Held int64
	// Apps is how many are there, or are to be made there.
	Apps int
}

// free is the memory that nobody uses or was promised by us, and whether that is known.
func (n Node) free() (int64, bool) {
	return n.Memory - n.MemoryUsed - n.Promised, n.Memory > 0
}

// Reasons why a node does not fit, for programs.
const (
	ReasonNoNodeFits   = "NoNodeFits" // several, each for another reason
	ReasonNodeNotFound = "NodeNotFound"
	ReasonNodeOffline  = "NodeOffline"
	ReasonMaintenance  = "NodeInMaintenance"
	ReasonExcluded     = "NodeExcluded"
	ReasonNotAsked     = "NodeNotAsked"
	ReasonNoStorage    = "StorageMissing"
	ReasonStorageDown  = "StorageInactive"
	ReasonStorageFull  = "StorageFull"
	ReasonMemoryShort  = "MemoryShort"
	ReasonNoTemplate   = "TemplateMissing"
)

// Rejection says why a node was not chosen. Reason is "" for one that fits.
type Rejection struct{ Node, Reason, Text string }

// Decision is what Place decided.
type Decision struct {
	Node string // "": none fits
	Why  string
	// Others are all other nodes, sorted by name.
	Others []Rejection
	// Warnings are sentences about what may go wrong on the chosen node.
	Warnings []string
}

// Place chooses the node. It does no I/O and reads no clock.
func Place(req Request, nodes []Node) Decision {
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	var d Decision
	var fit []Node
	for _, n := range nodes {
		if reason, text := req.lacks(n); reason != "" {
			d.Others = append(d.Others, Rejection{n.Name, reason, text})
			continue
		}
		fit = append(fit, n)
	}
	if req.Named != "" && !slices.ContainsFunc(nodes, func(n Node) bool { return n.Name == req.Named }) {
		d.Others = append(d.Others, Rejection{req.Named, ReasonNodeNotFound, "there is no such node"})
	}
	if len(fit) == 0 {
		return d
	}
	slices.SortStableFunc(fit, req.compare)
	best := fit[0]
	d.Node, d.Why = best.Name, req.why(best, fit, len(nodes))
	for _, n := range fit[1:] {
		d.Others = append(d.Others, Rejection{Node: n.Name, Text: req.worse(n, best)})
	}
	slices.SortFunc(d.Others, func(a, b Rejection) int { return strings.Compare(a.Node, b.Node) })
	if free, known := best.free(); known && free < req.Memory {
		d.Warnings = append(d.Warnings, fmt.Sprintf("node %s has %s of memory free and the guest may take %s", best.Name, size(free), size(req.Memory)))
	}
	if s, ok := best.Storage(req.Storage); ok && s.Avail-best.Held < req.Disk {
		d.Warnings = append(d.Warnings, fmt.Sprintf("storage %s of node %s has %s free and the disk may grow to %s", s.Name, best.Name, size(s.Avail-best.Held), size(req.Disk)))
	}
	return d
}

// lacks says why a node does not fit, "" when it does.
func (req Request) lacks(n Node) (reason, text string) {
	switch {
	case req.Named != "" && n.Name != req.Named:
		return ReasonExcluded, req.NamedBy + " names node " + req.Named
	case req.Named == "" && len(req.Nodes) > 0 && !slices.Contains(req.Nodes, n.Name):
		return ReasonExcluded, "spec.placement.nodes does not name it"
	case req.Named == "" && slices.Contains(req.Avoid, n.Name):
		return ReasonExcluded, "spec.placement.avoid names it"
	case !n.Online:
		return ReasonNodeOffline, "it is offline"
	case n.Maintenance && req.Named == "":
		return ReasonMaintenance, "it is in maintenance"
	case n.Cut != "":
		return n.CutReason, n.Cut
	case n.Unread != "":
		return ReasonNotAsked, n.Unread
	}
	if reason, text := req.storage(n); reason != "" {
		return reason, text
	}
	if free, known := n.free(); req.Strict && known && free < req.Memory {
		return ReasonMemoryShort, fmt.Sprintf("%s of memory are free of %s, and %s are needed", size(free), size(n.Memory), size(req.Memory))
	}
	if req.Strict && n.Template == TemplateMissing {
		return ReasonNoTemplate, fmt.Sprintf("template %s is not there and cannot be fetched", n.TemplateName)
	}
	return "", ""
}

func (req Request) storage(n Node) (reason, text string) {
	s, ok := n.Storage(req.Storage)
	switch {
	case !ok:
		return ReasonNoStorage, fmt.Sprintf("storage %s is not there, or the daemon may not see it (Datastore.Audit)", req.Storage)
	case !s.Active:
		return ReasonStorageDown, fmt.Sprintf("storage %s is not active", req.Storage)
	case !s.Holds("rootdir"):
		return ReasonNoStorage, fmt.Sprintf("storage %s does not take root file systems (content type rootdir)", req.Storage)
	}
	if what, percent := s.Full(); percent > 0 {
		return ReasonStorageFull, fmt.Sprintf("%sstorage %s is %d %% full", what, req.Storage, percent)
	}
	if (req.Strict || s.thick()) && s.Total > 0 && s.Avail-n.Held < req.Disk {
		return ReasonStorageFull, fmt.Sprintf("storage %s has %s free, and %s are needed", req.Storage, size(s.Avail-n.Held), size(req.Disk))
	}
	return "", ""
}

// compare orders nodes that fit, the best first.
func (req Request) compare(a, b Node) int {
	unknown := func(n Node) int {
		if n.Template >= TemplateUnknown {
			return 1
		}
		return 0
	}
	memory := func() int {
		x, _ := a.free()
		y, _ := b.free()
		return cmp.Compare(y, x)
	}
	order := []int{cmp.Compare(unknown(a), unknown(b))}
	if req.Strategy == Spread {
		order = append(order, cmp.Compare(a.Apps, b.Apps))
	}
	return cmp.Or(append(order, memory(), cmp.Compare(a.Template, b.Template), cmp.Compare(a.Apps, b.Apps), strings.Compare(a.Name, b.Name))...)
}

func (req Request) why(best Node, fit []Node, all int) string {
	free, known := best.free()
	switch {
	case req.Named != "":
		return req.NamedBy + " names it"
	case all == 1:
		return "it is the only node"
	case len(fit) == 1:
		return "it is the only node that fits"
	case req.Strategy == Spread:
		return fmt.Sprintf("it has the fewest Apps (%d) of the %d nodes that fit", best.Apps, len(fit))
	case !known:
		return fmt.Sprintf("it is the first of the %d nodes that fit", len(fit))
	}
	return fmt.Sprintf("it has the most free memory (%s) of the %d nodes that fit", size(free), len(fit))
}

// worse says what a node that fits has less of than the chosen one.
func (req Request) worse(n, best Node) string {
	mine, known := n.free()
	others, _ := best.free()
	switch {
	case n.Template >= TemplateUnknown && best.Template < TemplateUnknown:
		return "it fits, but it is not sure that it can fetch template " + n.TemplateName
	case req.Strategy == Spread && n.Apps != best.Apps:
		return fmt.Sprintf("it fits, but has more Apps (%d)", n.Apps)
	case known && mine != others:
		return fmt.Sprintf("it fits, but has less free memory (%s)", size(mine))
	case n.Template > best.Template:
		return fmt.Sprintf("it fits as well, but would have to fetch template %s", n.TemplateName)
	}
	return "it fits as well"
}

// Blocking is why nothing fits, for programs and for people; it is for a decision without a
// node. A node that was excluded on purpose is only told of when nothing else was.
func (d Decision) Blocking() (reason, text string) {
	var others []Rejection
	for _, o := range d.Others {
		if o.Reason != ReasonExcluded {
			others = append(others, o)
		}
	}
	if len(others) == 0 {
		others = d.Others
	}
	if len(others) == 0 {
		return ReasonNoNodeFits, "Proxmox lists no node; is Sys.Audit missing?"
	}
	reason = others[0].Reason
	texts := make([]string, len(others))
	for i, o := range others {
		if o.Reason != reason {
			reason = ReasonNoNodeFits
		}
		texts[i] = o.Node + ": " + o.Text
	}
	return reason, strings.Join(texts, "; ")
}

// Signature is equal for decisions against the same nodes for the same reasons, whatever the
// figures in their texts.
func (d Decision) Signature() string {
	var b strings.Builder
	b.WriteString(d.Node)
	for _, o := range d.Others {
		fmt.Fprintf(&b, ";%s=%s", o.Node, o.Reason)
	}
	return b.String()
}

// size is a number of bytes for people.
func size(bytes int64) string {
	if bytes < 0 {
		return "nothing"
	}
	const gib = 1 << 30
	if bytes >= gib || bytes == 0 {
		return fmt.Sprintf("%.1f GiB", float64(bytes)/gib)
	}
	return fmt.Sprintf("%d MiB", bytes>>20)
}
