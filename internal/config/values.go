package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written as text with a unit: "90s", "1h30m".
// A bare number is an error, since nobody knows its unit.
type Duration struct{ time.Duration }

// valueError is a value that can't be read. The decoder gives such errors of
// bare numbers no position, so explain looks for Text in the file.
type valueError struct{ Text, Want string }

func (e *valueError) Error() string { return fmt.Sprintf("%q is no %s", e.Text, e.Want) }

// UnmarshalText reads a duration with units (ns, us, ms, s, m, h).
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return &valueError{string(b), `duration; write a number and a unit such as "90s" or "1h30m"`}
	}
	d.Duration = v
	return nil
}

// MarshalText is the reverse of UnmarshalText.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Size is a number of bytes, written as a whole number or as text with a
// binary unit: "32MiB".
type Size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// UnmarshalText reads a whole number, with KiB, MiB or GiB behind it or not.
func (s *Size) UnmarshalText(b []byte) error {
	digits, unit := string(b), int64(1)
	for _, u := range sizeUnits {
		if d, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, unit = strings.TrimSpace(d), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return &valueError{string(b), `size; write bytes, or a number with KiB, MiB or GiB such as "32MiB"`}
	}
	*s = Size(n * unit)
	return nil
}

// MarshalText writes s in the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String returns s in the largest unit that divides it.
func (s Size) String() string {
	for i := len(sizeUnits) - 1; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.suffix)
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
