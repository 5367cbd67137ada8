package proxmox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Pool is a resource pool with its members.
type Pool struct {
	ID      string     `json:"poolid"`
	Comment string     `json:"comment"`
	Members []Resource `json:"members"`
}

var poolID = regexp.MustCompile(`^[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+){0,2}$`)

func checkPool(id string) error {
	if !poolID.MatchString(id) {
		return fmt.Errorf("proxmox: %.80q is not a pool's name", id)
	}
	return nil
}

// poolRoute addresses a pool: by path, which every version knows, unless it is nested in
// another one; a slash cannot be part of a path.
func poolRoute(method, id string) request {
	if strings.Contains(id, "/") {
		return route(method, "/pools").with("poolid", id)
	}
	return route(method, "/pools/{poolid}", id)
}

// Pools lists the pools that the caller may audit, without their members.
func (c *Client) Pools(ctx context.Context) ([]Pool, error) {
	return fetch[[]Pool](ctx, c, route(http.MethodGet, "/pools"))
}

// Pool reads a pool with its members.
func (c *Client) Pool(ctx context.Context, id string) (Pool, error) {
	if err := checkPool(id); err != nil {
		return Pool{}, err
	}
	r := poolRoute(http.MethodGet, id)
	if !strings.Contains(id, "/") {
		p, err := fetch[Pool](ctx, c, r)
		// The answer about one pool repeats its name only since 8.1.
		p.ID = id
		return p, err
	}
	list, err := fetch[[]Pool](ctx, c, r)
	if err == nil && len(list) != 1 {
		err = fmt.Errorf("proxmox: %d pools answer to the name %s", len(list), id)
	}
	if err != nil {
		return Pool{}, err
	}
	return list[0], nil
}

// CreatePool makes an empty pool; it needs Pool.Allocate on /pool/{id}.
func (c *Client) CreatePool(ctx context.Context, id, comment string) error {
	if err := checkPool(id); err != nil {
		return err
	}
	_, err := c.call(ctx, route(http.MethodPost, "/pools").with("poolid", id).with("comment", comment), nil)
	return err
}

// PoolUpdate changes who belongs to a pool. A guest belongs to one pool at most.
type PoolUpdate struct {
	VMIDs    []int
	Storages []string
	// Remove takes the members out instead of in.
	Remove  bool
	Comment string
}

// UpdatePool changes a pool. Adding a member that belongs to it, or removing one that does
// not, is refused by the server.
func (c *Client) UpdatePool(ctx context.Context, id string, u PoolUpdate) error {
	err := checkPool(id)
	ids := make([]string, len(u.VMIDs))
	for i, vmid := range u.VMIDs {
		if !ValidVMID(vmid) {
			err = errors.Join(err, fmt.Errorf("proxmox: %d is not a VMID", vmid))
		}
		ids[i] = strconv.Itoa(vmid)
	}
	if err != nil {
		return err
	}
	r := poolRoute(http.MethodPut, id).withList("vms", ids).withList("storage", u.Storages).
		withBool("delete", u.Remove).with("comment", u.Comment)
	_, err = c.call(ctx, r, nil)
	return err
}

// DeletePool removes a pool, which must be empty.
func (c *Client) DeletePool(ctx context.Context, id string) error {
	if err := checkPool(id); err != nil {
		return err
	}
	_, err := c.call(ctx, poolRoute(http.MethodDelete, id), nil)
	return err
}
