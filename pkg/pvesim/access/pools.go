package access

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Pool is a named set of guests and storages. A guest is in one pool at most.
type Pool struct {
	Comment  string   `json:"comment,omitempty"`
	VMs      []int    `json:"vms,omitempty"`     // sorted
	Storages []string `json:"storage,omitempty"` // sorted
}

// Pools returns a copy of all pools.
func (s *Store) Pools() map[string]Pool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]Pool{}
	for name, p := range s.state.Pools {
		out[name] = Pool{p.Comment, slices.Clone(p.VMs), slices.Clone(p.Storages)}
	}
	return out
}

// PoolByGuest returns the pool of every guest that is in one.
func (s *Store) PoolByGuest() map[int]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[int]string{}
	for name, p := range s.state.Pools {
		for _, vmid := range p.VMs {
			out[vmid] = name
		}
	}
	return out
}

// PoolOf returns the pool of a guest, "" if it is in none.
func (s *Store) PoolOf(vmid int) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.state.poolOf(vmid)
}

func (st *state) poolOf(vmid int) string {
	for name, p := range st.Pools {
		if slices.Contains(p.VMs, vmid) {
			return name
		}
	}
	return ""
}

var poolLeafRE = regexp.MustCompile(`^[A-Za-z]`)

// CreatePool makes an empty pool; the parent of a nested one (a/b) must exist.
func (s *Store) CreatePool(name, comment string) error {
	return s.change(func(st *state) error {
		if st.Pools[name] != nil {
			return fmt.Errorf("pool '%s' already exists", name)
		}
		leaf := name
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			if st.Pools[name[:i]] == nil {
				return fmt.Errorf("parent '%s' of pool '%s' does not exist", name[:i], name)
			}
			leaf = name[i+1:]
		}
		if !poolLeafRE.MatchString(leaf) {
			return fmt.Errorf("pool name must start with a letter")
		}
		st.Pools[name] = &Pool{Comment: comment}
		return nil
	})
}

// PoolChange is what PUT /pools asks for.
type PoolChange struct {
	Comment   *string
	VMs       []int
	Storages  []string
	Remove    bool
	AllowMove bool
	// MayVM, MayStorage and MayPool are the caller's rights on what is touched. They must
	// not use the store, which is locked meanwhile.
	MayVM      func(vmid int) error
	MayStorage func(id string) error
	MayPool    func(pool string) error
}

// UpdatePool adds or removes members. A refusal changes nothing.
func (s *Store) UpdatePool(name string, c PoolChange) error {
	return s.change(func(st *state) error {
		p := st.Pools[name]
		if p == nil {
			return fmt.Errorf("pool '%s' does not exist", name)
		}
		next := Pool{p.Comment, slices.Clone(p.VMs), slices.Clone(p.Storages)}
		if c.Comment != nil {
			next.Comment = *c.Comment
		}
		moved := map[int]string{} // out of which pool
		for _, vmid := range c.VMs {
			if err := st.poolVM(name, &next, vmid, c, moved); err != nil {
				return err
			}
		}
		for _, id := range c.Storages {
			if err := c.MayStorage(id); err != nil {
				return err
			}
			member := slices.Contains(next.Storages, id)
			switch {
			case c.Remove && !member:
				//lint:ignore ST1005 the real text
				return fmt.Errorf("Storage '%s' is not a pool member", id)
			case !c.Remove && member:
				//lint:ignore ST1005 the real text
				return fmt.Errorf("Storage '%s' is already a pool member", id)
			case c.Remove:
				next.Storages = slices.DeleteFunc(next.Storages, func(s string) bool { return s == id })
			default:
				next.Storages = slices.Sorted(slices.Values(append(next.Storages, id)))
			}
		}
		for vmid, from := range moved {
			st.Pools[from].VMs = without(st.Pools[from].VMs, vmid)
		}
		*p = next
		return nil
	})
}

// poolVM adds one guest to the pool or removes it.
func (st *state) poolVM(name string, p *Pool, vmid int, c PoolChange, moved map[int]string) error {
	if err := c.MayVM(vmid); err != nil {
		return err
	}
	member := slices.Contains(p.VMs, vmid)
	if c.Remove {
		if !member {
			return fmt.Errorf("VM %d is not a pool member", vmid)
		}
		p.VMs = without(p.VMs, vmid)
		return nil
	}
	if member {
		return fmt.Errorf("VM %d is already a pool member", vmid)
	}
	if from := st.poolOf(vmid); from != "" {
		if !c.AllowMove {
			return fmt.Errorf("VM %d belongs already to pool '%s' and 'allow-move' is not set", vmid, from)
		}
		if err := c.MayPool(from); err != nil {
			return err
		}
		moved[vmid] = from
	}
	p.VMs = slices.Sorted(slices.Values(append(p.VMs, vmid)))
	return nil
}

func without(list []int, vmid int) []int {
	return slices.DeleteFunc(list, func(v int) bool { return v == vmid })
}

// AddToPool puts a new guest into a pool.
func (s *Store) AddToPool(name string, vmid int) error {
	return s.change(func(st *state) error {
		p := st.Pools[name]
		if p == nil {
			return fmt.Errorf("pool '%s' does not exist", name)
		}
		if from := st.poolOf(vmid); from != "" {
			st.Pools[from].VMs = without(st.Pools[from].VMs, vmid)
		}
		p.VMs = slices.Sorted(slices.Values(append(p.VMs, vmid)))
		return nil
	})
}

// DeletePool removes an empty pool and its entries in the access control list. exists
// says of a member whether it is still there; members that are gone do not count.
func (s *Store) DeletePool(name string, vmExists func(int) bool, storageExists func(string) bool) error {
	return s.change(func(st *state) error {
		p := st.Pools[name]
		if p == nil {
			return fmt.Errorf("pool '%s' does not exist", name)
		}
		var children []string
		for other := range st.Pools {
			if rest, ok := strings.CutPrefix(other, name+"/"); ok && !strings.Contains(rest, "/") {
				children = append(children, other)
			}
		}
		if len(children) > 0 {
			return fmt.Errorf("pool '%s' is not empty (contains pool '%s')", name, slices.Min(children))
		}
		for _, vmid := range p.VMs {
			if vmExists(vmid) {
				return fmt.Errorf("pool '%s' is not empty (contains VM %d)", name, vmid)
			}
		}
		for _, id := range p.Storages {
			if storageExists(id) {
				return fmt.Errorf("pool '%s' is not empty (contains storage '%s')", name, id)
			}
		}
		delete(st.Pools, name)
		st.dropPath("/pool/" + name)
		return nil
	})
}

// ForgetGuest removes a destroyed guest from its pool and from the access control list.
func (s *Store) ForgetGuest(vmid int) error {
	return s.change(func(st *state) error {
		if pool := st.poolOf(vmid); pool != "" {
			st.Pools[pool].VMs = without(st.Pools[pool].VMs, vmid)
		}
		st.dropPath(fmt.Sprintf("/vms/%d", vmid))
		return nil
	})
}

// ForgetStorage removes a storage that is gone from its pools and from the access control
// list.
func (s *Store) ForgetStorage(id string) error {
	return s.change(func(st *state) error {
		for _, p := range st.Pools {
			p.Storages = slices.DeleteFunc(p.Storages, func(other string) bool { return other == id })
		}
		st.dropPath("/storage/" + id)
		return nil
	})
}
