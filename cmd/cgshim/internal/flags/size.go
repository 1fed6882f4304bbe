package flags

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

func parsePositiveSize(value string) (int64, error) {
	n, err := parseSize(value)
	if err == nil && n == 0 {
		err = errNotPositive
	}
	return n, err
}

var (
	errNotPositive = errors.New("must be more than zero")
	errSize        = errors.New("want a size like 64M, 1.5GiB, or a number of bytes")
	errFraction    = errors.New("want a whole number of bytes")
	errNegative    = errors.New("must not be negative")
	errDuration    = errors.New("want a duration like 1.5s, 300ms, 2m, or a number of seconds")
	errTooLarge    = errors.New("is too large")
)

// isSize reports whether value is a number, perhaps with a unit. RAMInBytes would take more: "1 .5m", "+1", "0x1p3".
func isSize(value string) bool {
	number := strings.TrimRight(value, "kKmMgGtTpPiIbB")
	unit := strings.ToLower(value[len(number):])
	if prefix := strings.TrimRight(unit, "ib"); len(prefix) > 1 || !slices.Contains([]string{"", "b", "ib"}, unit[len(prefix):]) || unit == "ib" {
		return false
	}
	whole, fraction, point := strings.Cut(number, ".")
	return isDigits(whole) && (!point || isDigits(fraction))
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isSeconds reports whether value is a bare number. ParseFloat would also take "1e3", "0x1p3", "Inf" and "NaN".
func isSeconds(value string) bool {
	whole, fraction, point := strings.Cut(value, ".")
	return (isDigits(whole) || point && whole == "") && (!point || isDigits(fraction))
}

// maxSeconds is the longest duration.
const maxSeconds = math.MaxInt64 / 1e9 / 2

// parseSize parses a binary size: 64M, 64m, 64MB and 64MiB are all 67108864.
func parseSize(value string) (int64, error) {
	if !isSize(value) {
		return 0, errSize
	}
	if number := strings.TrimRight(value, "bB"); isSeconds(number) {
		return parseBytes(number)
	}
	n, err := units.RAMInBytes(value)
	if err != nil {
		return 0, errSize
	}
	// RAMInBytes converts from float64 without a check: beyond int64 the result is any number.
	if n < 0 || n > math.MaxInt64/2 || len(value) > 24 {
		return 0, errTooLarge
	}
	return n, nil
}

// parseBytes parses a size without a unit. RAMInBytes would round a number above 2^53, and cut off a fraction.
func parseBytes(number string) (int64, error) {
	whole, fraction, _ := strings.Cut(number, ".")
	if strings.Trim(fraction, "0") != "" {
		return 0, errFraction
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > math.MaxInt64/2 {
		return 0, errTooLarge
	}
	return n, nil
}

// parseDuration parses a Go duration, or a number of seconds. It is never negative.
func parseDuration(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil {
		if !isSeconds(value) {
			return 0, errDuration
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil || seconds > maxSeconds {
			return 0, errTooLarge
		}
		d = time.Duration(seconds * 1e9)
	}
	if d < 0 {
		return 0, errNegative
	}
	return d, nil
}
