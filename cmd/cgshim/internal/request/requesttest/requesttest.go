// Package requesttest writes strings that are no UTF-8 as JSON, for tests of requests.
package requesttest

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Raw writes the bytes as they are.
func Raw(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(rune(c)))
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

// Python writes a string as Python does: json.dumps(os.fsdecode(text)).
func Python(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\udc%02x`, text[0])
		default:
			quoted, _ := json.Marshal(string(r))
			b.Write(quoted[1 : len(quoted)-1])
		}
		text = text[size:]
	}
	return b.String() + `"`
}
