package resource

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// QuantityRule says in words what ParseQuantity takes.
const QuantityRule = "an IEC quantity: a whole number and Ki, Mi, Gi or Ti, e.g. 512Mi"

// MebiByte is what Proxmox counts memory in.
const MebiByte = 1 << 20

var quantityUnits = map[string]int64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}

// ErrQuantity: the text is no quantity, or one that is too large.
var ErrQuantity = errors.New("not a quantity")

// ParseQuantity returns the bytes of an IEC quantity such as 512Mi or 8Gi; "0" needs no
// unit. Other numbers need one: 512 has meant bytes to some and MiB to others.
func ParseQuantity(s string) (bytes int64, err error) {
	if s == "0" {
		return 0, nil
	}
	if len(s) < 3 {
		return 0, fmt.Errorf("%w: %q", ErrQuantity, shorten(s))
	}
	number, unit := s[:len(s)-2], quantityUnits[s[len(s)-2:]]
	if unit == 0 || strings.Trim(number, "0123456789") != "" || number[0] == '0' && number != "0" {
		return 0, fmt.Errorf("%w: %q", ErrQuantity, shorten(s))
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%w: %q is too large", ErrQuantity, shorten(s))
	}
	return n * unit, nil
}

// QuantityMiB returns a quantity in whole MiB, rounded up, or 0 when it is unset or is none.
// It is for values that passed validation.
func QuantityMiB(s string) int64 {
	n, err := ParseQuantity(s)
	if err != nil {
		return 0
	}
	return n/MebiByte + min(1, n%MebiByte)
}
