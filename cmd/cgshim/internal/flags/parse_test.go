package flags

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParseSize(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for value, want := range map[string]int64{
		"64M": 64 * mib, "64m": 64 * mib, "64MB": 64 * mib, "64mb": 64 * mib, "64MiB": 64 * mib, "64mib": 64 * mib,
		"67108864": 64 * mib, "67108864b": 64 * mib, "67108864B": 64 * mib,
		"1k": 1024, "1KiB": 1024, "1.5G": gib + gib/2, "0.5K": 512, "2T": 2048 * gib, "1P": 1 << 50,
		"0": 0, "0G": 0, "1": 1, "0064M": 64 * mib, "9007199254740991": 1<<53 - 1,
		"9007199254740993": 1<<53 + 1, "4611686018427387903": math.MaxInt64 / 2, "7.0": 7, "7.00b": 7,
	} {
		if got, err := parseSize(value); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", value, got, err, want)
		}
	}
	for _, value := range []string{
		"", " ", "-1", "-64M", "+1", "+64M", "1e3", "1E3", "0x10", "0x1p3", "64X", "64 M", " 64M", "64M ", "64M\n",
		"M", "MiB", ".5M", "5.M", "1.2.3M", "1,5G", "1_000", "NaN", "nan", "Inf", "inf", "-Inf", "infinity",
		"1.5", "1.5b", "0.1", "9007199254740993.5", "4611686018427387904", "64MM", "64Mbit", "64iB", "64KMiB", "max", "unlimited", "６４M",
		"8E", "1Z", "9999999999G", "9223372036854775807", "9223372036854775808", "18446744073709551616", "99999999P",
		"999999999999999999999999999999999999", strings.Repeat("9", 400) + "P",
	} {
		if got, err := parseSize(value); err == nil {
			t.Errorf("%q is accepted, as %d", value, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1.5": 1500 * time.Millisecond, "1.5s": 1500 * time.Millisecond, "300ms": 300 * time.Millisecond, "2m": 2 * time.Minute,
		"1h30m": 90 * time.Minute, "2": 2 * time.Second, "0.001": time.Millisecond, "1us": time.Microsecond, "0": 0, "0s": 0,
		"3600": time.Hour,
	} {
		if got, err := parseDuration(value); err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", value, got, err, want)
		}
	}
	for _, value := range []string{
		"", " ", "-1s", "-1", "-0.5", "-1e300", "NaN", "nan", "Inf", "-Inf", "1e300", "1e10", "5parsecs", "1 s", " 1s", "1s ", "s", "ms",
		"1,5", "0x10", "9999999999999h", "9223372036854775808", "--1", "1..5",
	} {
		if got, err := parseDuration(value); err == nil {
			t.Errorf("%q is accepted, as %v", value, got)
		}
	}
}

var digits = regexp.MustCompile(`^[0-9]+$`)

// FuzzParseSize: no input is negative, is read differently when written as bytes, or shrinks with a unit.
func FuzzParseSize(f *testing.F) {
	for _, seed := range []string{"64M", "1.5G", "0", "-1", "9999999999G", "4096P", "4095.999P", "0.0000001K", "9007199254740993", "1e3", "64Mi", "NaN"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		n, err := parseSize(value)
		if err != nil {
			if n != 0 {
				t.Errorf("%q: %d together with an error", value, n)
			}
			return
		}
		if n < 0 || n > math.MaxInt64/2 {
			t.Fatalf("%q: %d", value, n)
		}
		if again, err := parseSize(strconv.FormatInt(n, 10)); err != nil || again != n {
			t.Errorf("%q is %d, and that is %d, %v", value, n, again, err)
		}
		if !digits.MatchString(value) {
			return
		}
		last := n
		for _, unit := range []string{"b", "k", "MiB", "gb", "T", "p"} {
			scaled, err := parseSize(value + unit)
			if err != nil {
				break // too large; so are the rest
			}
			if scaled < last {
				t.Errorf("%q is %d, with %s %d", value, n, unit, scaled)
			}
			last = scaled
		}
	})
}

// FuzzParseDuration: no input is negative, is read differently when written as Go does, or with a sign.
func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"1.5", "1.5s", "300ms", "-1s", "NaN", "1e300", "5parsecs", "-1e300", "0x1p3", "4611686018", "9223372036", "+1", "-0", "1e-300"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		d, err := parseDuration(value)
		if err != nil {
			if d != 0 {
				t.Errorf("%q: %v together with an error", value, d)
			}
			return
		}
		if d < 0 {
			t.Fatalf("%q: %v", value, d)
		}
		if again, err := parseDuration(d.String()); err != nil || again != d {
			t.Errorf("%q is %v, and that is %v, %v", value, d, again, err)
		}
		if negative, err := parseDuration("-" + value); err == nil && negative != 0 {
			t.Errorf("-%s is accepted, as %v", value, negative)
		}
	})
}
