package flags

import (
	"errors"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
)

// Number returns how a JSON number is written as the flag's value. In JSON, 1e6, 1000000 and 1000000.0 are the same number, but the
// command line has no exponents.
func Number(f cli.Flag) func(number string) (text string, err error) {
	switch placeholder(f) {
	case "SIZE", "N":
		return wholeNumber
	case "DUR":
		return plainNumber
	}
	return AsWritten
}

// AsWritten leaves a number as it is.
func AsWritten(number string) (string, error) { return number, nil }

var errNotWhole = errors.New("want a whole number")

// wholeNumber writes a JSON number with digits only.
func wholeNumber(number string) (string, error) {
	text, negative := strings.CutPrefix(number, "-")
	mantissa, exponent := text, "0"
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], text[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	significant := strings.TrimLeft(whole+fraction, "0")
	digits := strings.TrimRight(significant, "0")
	if digits == "" {
		return "0", nil // also for -0
	}
	zeros, err := strconv.ParseInt(exponent, 10, 32)
	zeros += int64(len(significant) - len(digits) - len(fraction))
	switch {
	case negative:
		return "", errNegative
	case zeros < 0:
		return "", errNotWhole // also for 1e-99999999999, which ParseInt has cut
	case err != nil || int64(len(digits))+zeros > int64(len("9223372036854775807")):
		return "", errTooLarge
	}
	return digits + strings.Repeat("0", int(zeros)), nil
}

// plainNumber writes a JSON number without an exponent.
func plainNumber(number string) (string, error) {
	n, err := strconv.ParseFloat(number, 64)
	switch {
	case n == 0:
		return "0", nil // also for -0.0e7
	case n < 0:
		return "", errNegative
	case err != nil || n > maxSeconds:
		return "", errTooLarge
	case isSeconds(number):
		return number, nil
	}
	return strconv.FormatFloat(n, 'f', -1, 64), nil
}
