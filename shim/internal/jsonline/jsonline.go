// Package jsonline writes JSON as cgshim does: each value on a line of its own, with no escapes that only HTML needs.
package jsonline

import (
	"bytes"
	"encoding/json"
)

// Encode is a value's JSON with a newline; pretty spreads it over several lines. No field of the value may fail to encode.
func Encode(v any, pretty bool) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if pretty {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}
