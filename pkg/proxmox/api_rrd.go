package proxmox

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Timeframe is how far back rows of figures go, and how dense they are: about 70 rows of a
// minute for an hour, and fewer per time the longer it is.
type Timeframe string

// Timeframes of figures.
const (
	LastHour  Timeframe = "hour"
	LastDay   Timeframe = "day"
	LastWeek  Timeframe = "week"
	LastMonth Timeframe = "month"
	LastYear  Timeframe = "year"
)

// Sample is a row of rrddata: averages over the time since the row before. Which figures
// there are depends on the version (cpu, maxcpu, mem, maxmem, disk, maxdisk, netin, netout,
// diskread, diskwrite, loadavg, pressure...); in a gap there are none.
type Sample struct {
	Time   time.Time
	Values map[string]float64
}

// UnmarshalJSON implements json.Unmarshaler. What is not a number is left out.
func (s *Sample) UnmarshalJSON(b []byte) error {
	var row map[string]json.RawMessage
	if err := json.Unmarshal(b, &row); err != nil {
		return err
	}
	*s = Sample{Values: make(map[string]float64, len(row))}
	for key, raw := range row {
		text, err := scalarText(raw)
		if err != nil || text == "" {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		if key == "time" {
			s.Time = time.Unix(int64(v), 0).UTC()
			continue
		}
		s.Values[key] = v
	}
	if s.Time.IsZero() {
		return fmt.Errorf("a sample has no time: %.60s", b)
	}
	return nil
}

// LXCSamples reads a guest's figures of the past.
func (c *Client) LXCSamples(ctx context.Context, node string, vmid int, over Timeframe) ([]Sample, error) {
	if err := checkGuest(node, vmid); err != nil {
		return nil, err
	}
	return c.samples(ctx, route(http.MethodGet, "/nodes/{node}/lxc/{vmid}/rrddata", node, vmid), over)
}

// NodeSamples reads a node's figures of the past; it needs Sys.Audit on the node.
func (c *Client) NodeSamples(ctx context.Context, node string, over Timeframe) ([]Sample, error) {
	if err := checkNode(node); err != nil {
		return nil, err
	}
	return c.samples(ctx, route(http.MethodGet, "/nodes/{node}/rrddata", node), over)
}

// StorageSamples reads a storage's figures of the past (total, used).
func (c *Client) StorageSamples(ctx context.Context, node, storage string, over Timeframe) ([]Sample, error) {
	if err := checkStorage(node, storage); err != nil {
		return nil, err
	}
	return c.samples(ctx, route(http.MethodGet, "/nodes/{node}/storage/{storage}/rrddata", node, storage), over)
}

func (c *Client) samples(ctx context.Context, r request, over Timeframe) ([]Sample, error) {
	return fetch[[]Sample](ctx, c, r.with("timeframe", string(over)).with("cf", "AVERAGE"))
}
