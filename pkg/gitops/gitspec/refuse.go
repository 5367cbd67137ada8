package gitspec

import "github.com/proximity-pve/proximity/pkg/resource"

// once are kinds that a repository may not have although others may be like them; the text
// goes on after "KIND is".
var once = map[string]string{
	"Operation": "a wish that is carried out once: applied again from Git, after a rebuild for instance, it would run a second time. Create it with proxctl or the API instead",
	"Event":     "what the daemon observed; it is written by the daemon alone and cannot be declared",
	"Backup":    "made at one point in time: applied again from Git it would be another backup under the old name. Declare a BackupSchedule, or create the Backup with proxctl or the API",
	"Restore":   "a wish that is carried out once and replaces data: applied again from Git it would overwrite what was written since. Create it with proxctl or the API instead",
	"Session":   "a login, which the daemon makes",
	"APIToken":  "made by the daemon, which shows its value once",
}

// Refuse says why objects of a kind may not be in a repository, nil when they may. `export`
// leaves the same kinds out.
func Refuse(reg *resource.Registry, kind string) *resource.FieldError {
	if why, ok := once[kind]; ok {
		return resource.Forbidden("kind", kind, "a repository cannot have it: it is "+why)
	}
	k, ok := reg.Get(kind)
	switch {
	case !ok:
		return nil // the decoder says it better
	case k.System:
		return resource.Forbidden("kind", kind, "a repository cannot have it: objects of this kind are written by the daemon only")
	case k.ImmutableSpec:
		return resource.Forbidden("kind", kind, "a repository cannot have it: objects of this kind are carried out once, and what is in a repository is applied again and again")
	}
	return nil
}
