package resource

// Bounds of the codec. Input comes from people, repositories and the network; each bound
// is far above what a real set of documents needs and far below what hurts the daemon.
const (
	// MaxSourceBytes bounds one file or body. 20,000 small documents fit in several files;
	// a single file of this size is already some 4,000 Apps.
	MaxSourceBytes = 4 << 20
	// MaxDocuments bounds the documents of one source, and of one set.
	MaxDocuments = 20_000
	// MaxDepth bounds nesting; the deepest kind needs 8.
	MaxDepth = 64
	// maxAliasCost bounds what YAML aliases of one source may expand to, in bytes of text
	// plus aliasNodeCost for each node. Sharing a block of environment variables among a
	// few hundred Apps fits; a "billion laughs" does not.
	maxAliasCost  = 1 << 20
	aliasNodeCost = 16
)
