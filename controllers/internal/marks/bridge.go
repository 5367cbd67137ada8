package marks

import (
	"strings"

	"github.com/proximity-pve/proximity/pkg/ownership"
)

// BridgeUID returns the uid of the Bridge that an interface was made for by this
// installation, from the comments that the API shows of it; "" for none. A bridge that was
// written through the API has the whole mark there, with the object's name, which must be
// the Bridge's; a block of the interfaces file ends with installation and uid alone.
func BridgeUID(installation, bridge, comments string) string {
	if m := ownership.FromComment(comments); m != nil {
		if m.Installation == installation && m.Kind == "Bridge" && m.Name == bridge {
			return m.UID
		}
		return ""
	}
	for line := range strings.Lines(comments) {
		f := strings.Fields(strings.TrimLeft(strings.TrimSpace(line), "# "))
		if len(f) != 2 || f[0] != "proximity:end" {
			continue
		}
		if uid, ours := strings.CutPrefix(f[1], installation+"/"); ours {
			return uid
		}
	}
	return ""
}
