package pvesim

import "slices"

func listStorageConf(c *call) (result, error) {
	all := c.node.storages.all()
	digest := digestOfStorages(all)
	rows := []map[string]any{}
	for _, s := range all {
		if c.may(storageACL(s.ID), "Datastore.Audit", "Datastore.AllocateSpace") && (!c.has("type") || c.params["type"] == s.Type) {
			rows = append(rows, s.confRow(digest))
		}
	}
	return result{data: rows}, nil
}

func getStorageConf(c *call) (result, error) {
	s, ok := c.node.storageByID(c.params["storage"])
	if !ok {
		return result{}, errNoStorage(c.params["storage"])
	}
	return result{data: s.confRow(digestOfStorages(c.node.storages.all()))}, nil
}

func errNoStorage(id string) error { return die("storage '%s' does not exist", id) }

// createStorageConf adds a storage. Its size is that of the disk of the system, which
// the simulated node has only one of.
func createStorageConf(c *call) (result, error) {
	id, kind := c.params["storage"], c.params["type"]
	plugin, ok := storagePlugins[kind]
	if !ok {
		return result{}, die("storage type '%s' is not simulated", kind)
	}
	given := c.sectionParams("storage", "type")
	if given["nodes"] == "" {
		delete(given, "nodes")
	}
	if err := plugin.options.check(given, true); err != nil {
		return result{}, err
	}
	err := c.node.storages.change(func(list []Storage) ([]Storage, error) {
		if slices.ContainsFunc(list, func(s Storage) bool { return s.ID == id }) {
			return nil, die("storage ID '%s' already defined", id)
		}
		s := Storage{ID: id, Type: kind, Content: plugin.fallback, Shared: plugin.shared, Bytes: nodeDiskBytes, Options: map[string]string{}}
		if len(list) > 0 {
			s.Bytes = list[0].Bytes
		}
		if kind == "nfs" || kind == "cifs" {
			s.Options["path"] = "/mnt/pve/" + id
		}
		return append(list, s.apply(plugin, given, nil)), nil
	})
	return result{data: map[string]any{"storage": id, "type": kind}}, failing("create storage failed", err)
}

func updateStorageConf(c *call) (result, error) {
	id, kind := c.params["storage"], ""
	err := c.node.storages.change(func(list []Storage) ([]Storage, error) {
		if err := c.assertDigest(digestOfStorages(list)); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(s Storage) bool { return s.ID == id })
		if i < 0 {
			return nil, errNoStorage(id)
		}
		kind = list[i].Type
		plugin := storagePlugins[kind]
		given := c.sectionParams("storage", "digest", "delete")
		if err := plugin.options.check(given, false); err != nil {
			return nil, err
		}
		if err := plugin.options.checkDelete(c.list("delete"), given); err != nil {
			return nil, err
		}
		list[i] = list[i].apply(plugin, given, c.list("delete"))
		return list, nil
	})
	return result{data: map[string]any{"storage": id, "type": kind}}, failing("update storage failed", err)
}

// deleteStorageConf forgets a storage; what it holds stays on its disk.
func deleteStorageConf(c *call) (result, error) {
	id := c.params["storage"]
	err := c.node.storages.change(func(list []Storage) ([]Storage, error) {
		if !slices.ContainsFunc(list, func(s Storage) bool { return s.ID == id }) {
			return nil, errNoStorage(id)
		}
		return slices.DeleteFunc(list, func(s Storage) bool { return s.ID == id }), nil
	})
	if err == nil {
		err = c.node.access.ForgetStorage(id)
	}
	return result{}, failing("delete storage failed", err)
}
