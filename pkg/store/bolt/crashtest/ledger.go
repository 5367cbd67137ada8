package crashtest

import "fmt"

// What a writing process says, a line each.
const (
	openedLine  = "opened"  // revision
	writtenLine = "written" // writer, number of its transaction, revision: acknowledged
	seenLine    = "seen"    // revision of an event that a watch delivered
	trailedLine = "trailed" // revision: the audit trail has all changes up to it
)

// Ledger is what a writing process has said: the client's side of the bargain.
type Ledger struct {
	Counts       map[int]int32 // number of the last acknowledged transaction of each writer
	Revision     uint64        // the newest one that was acknowledged or shown
	Acknowledged int           // transactions
	Seen         int           // watch events
	Trailed      uint64        // the newest revision that the audit trail said it has
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger { return &Ledger{Counts: map[int]int32{}} }

// Note takes one line, without its end.
func (l *Ledger) Note(line string) error {
	var word string
	if _, err := fmt.Sscan(line, &word); err != nil {
		return fmt.Errorf("line %q: %w", line, err)
	}
	var err error
	var writer int
	var n int32
	var revision uint64
	switch word {
	case openedLine:
		_, err = fmt.Sscan(line, &word, &revision)
	case seenLine:
		_, err = fmt.Sscan(line, &word, &revision)
		l.Seen++
	case trailedLine:
		_, err = fmt.Sscan(line, &word, &l.Trailed)
	case writtenLine:
		_, err = fmt.Sscan(line, &word, &writer, &n, &revision)
		l.Counts[writer] = max(l.Counts[writer], n)
		l.Acknowledged++
	default:
		err = fmt.Errorf("nobody says %q", word)
	}
	if err != nil {
		return fmt.Errorf("line %q: %w", line, err)
	}
	l.Revision = max(l.Revision, revision, l.Trailed)
	return nil
}
