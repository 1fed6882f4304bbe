package flags

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzNumbers: what is made of a JSON number is the same number, without an exponent, or an error.
func FuzzNumbers(f *testing.F) {
	for _, seed := range []string{"0", "-0", "1e6", "1.5", "15e-1", "1e400", "-1e-400", "0e9999999999999999999", "1e-9999999999999999999", "123456789012345678901234567890", "4.0000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, number string) {
		if len(number) > 400 || strings.TrimSpace(number) != number || !json.Valid([]byte(number)) || strings.Trim(number[:1], "-0123456789") != "" {
			return
		}
		var n float64
		inRange := json.Unmarshal([]byte(number), &n) == nil
		for _, write := range []func(string) (string, error){wholeNumber, plainNumber} {
			text, err := write(number)
			if err != nil {
				continue
			}
			var again float64
			if jsonErr := json.Unmarshal([]byte(text), &again); jsonErr != nil || again != n && inRange && n >= 1e-300 || strings.ContainsAny(text, "eE-+") || !isSeconds(text) {
				t.Errorf("%s is %s, %v", number, text, jsonErr)
			}
		}
		if digits.MatchString(number) && len(number) < 19 {
			if text, err := wholeNumber(number); err != nil || text != number {
				t.Errorf("%s is %s, %v", number, text, err)
			}
		}
	})
}
