package guest

// Capture keeps the first bytes written to it and counts the rest as cut. It never
// refuses a write: the writer on the other side must be able to finish. Ways into a
// guest use it for output; it is not safe for concurrent use.
type Capture struct {
	max  int
	data []byte
	cut  bool
}

// NewCapture returns a Capture of at most max bytes; 0 means DefaultMaxOutput.
func NewCapture(max int) *Capture {
	if max <= 0 {
		max = DefaultMaxOutput
	}
	return &Capture{max: max}
}

// Write implements io.Writer. It always takes everything.
func (c *Capture) Write(p []byte) (int, error) {
	room := min(len(p), c.max-len(c.data))
	c.data = append(c.data, p[:room]...)
	c.cut = c.cut || room < len(p)
	return len(p), nil
}

// Bytes returns what was kept.
func (c *Capture) Bytes() []byte { return c.data }

// Truncated reports whether something was cut.
func (c *Capture) Truncated() bool { return c.cut }
