package appliance

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Manifest is the list of a live set. It is written last by every apply: with it the
// set counts as live.
type Manifest struct {
	Protocol   int
	Hash       string     // Bundle.Hash
	Address    netip.Addr // of the appliance on the LAN, where DNS is asked
	DNSProof   string     // hex of the text that only this dnsmasq.conf serves
	StockProof string     // text that only this vhosts.json serves
	ProxyProof string     // text that only this proxy.json serves
	Table      string     // version of this vhosts.table
	Files      []ManifestFile
}

// ManifestFile is one file of a Manifest, without its content.
type ManifestFile struct {
	Hash string // hex SHA-256
	Mode uint32
	Part Part
	Path string
}

// HashSet is the hash of a set of files, from path to hex SHA-256 of the content: what
// the agent computes with find, sort and sha256sum.
func HashSet(hashes map[string]string) string {
	var list bytes.Buffer
	for _, path := range slices.Sorted(maps.Keys(hashes)) {
		fmt.Fprintf(&list, "%s  %s\n", hashes[path], path)
	}
	return contentHash(list.Bytes())
}

// renderManifest lists the set for the agent, with what the self-checks expect.
func renderManifest(a *accepted, b Bundle, p proofs) []byte {
	var m bytes.Buffer
	m.WriteString(header(a, "The live set of files, written last by every apply."))
	fmt.Fprintf(&m, "protocol %d\n", Protocol)
	fmt.Fprintf(&m, "hash %s\n", b.Hash)
	fmt.Fprintf(&m, "address %s\n", a.lan.Addr())
	fmt.Fprintf(&m, "dns-proof %s\n", hex.EncodeToString([]byte(p.dns)))
	fmt.Fprintf(&m, "stock-proof %s\n", p.stock)
	fmt.Fprintf(&m, "proxy-proof %s\n", p.proxy)
	fmt.Fprintf(&m, "table %s\n", p.table)
	for _, f := range b.Files {
		fmt.Fprintf(&m, "file %s %04o %s %s\n", contentHash(f.Content), f.Mode, f.Part, f.Path)
	}
	return m.Bytes()
}

// ParseManifest reads a manifest file.
func ParseManifest(text []byte) (Manifest, error) {
	var m Manifest
	var err error
	for line := range strings.Lines(string(text)) {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "#":
		case "protocol":
			m.Protocol, err = atoi(rest)
		case "hash":
			err = setHashField(&m.Hash, rest)
		case "address":
			m.Address, err = netip.ParseAddr(rest)
		case "dns-proof":
			err = setWord(&m.DNSProof, rest)
		case "stock-proof":
			err = setWord(&m.StockProof, rest)
		case "proxy-proof":
			err = setWord(&m.ProxyProof, rest)
		case "table":
			err = setWord(&m.Table, rest)
		case "file":
			err = m.parseFile(rest)
		default:
			err = errors.New("unknown")
		}
		if err != nil {
			return m, fmt.Errorf("manifest line %s: %w", quoted(line), err)
		}
	}
	if m.Protocol != Protocol {
		return m, fmt.Errorf("manifest: %w: %d", ErrProtocol, m.Protocol)
	}
	return m, nil
}

func (m *Manifest) parseFile(rest string) error {
	f := strings.Split(rest, " ")
	if len(f) != 4 || !hashRE.MatchString(f[0]) || !strings.HasPrefix(f[3], "/") {
		return errFields
	}
	mode, err := strconv.ParseUint(f[1], 8, 9)
	if err != nil {
		return errValue
	}
	m.Files = append(m.Files, ManifestFile{Hash: f[0], Mode: uint32(mode), Part: Part(f[2]), Path: f[3]})
	return nil
}
