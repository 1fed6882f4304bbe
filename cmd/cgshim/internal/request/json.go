package request

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON strings are Unicode, but the kernel takes bytes. encoding/json puts U+FFFD in the place of everything that is not
// Unicode, so that a request would run another file than the one that it names. Therefore encoding/json only finds out here where
// a value begins and ends, and this file reads the strings:
//
//	in the request               what the program gets
//	UTF-8                        the same bytes
//	a byte XX that is no UTF-8   that byte
//	\udcXX, from \udc80 on       byte XX: Python's json.dumps(os.fsdecode(path))
//	another lone surrogate       an error, because it stands for no bytes

// A member is a key of a JSON object, with its value as written.
type member struct {
	key   string
	value json.RawMessage
}

func (m member) isNull() bool { return kindOf(m.value) == kindNull }

// readObject reads a line with one JSON object, or null, which has no members. Keys may be there twice.
func readObject(line []byte) (members []member, err error) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	var object json.RawMessage
	if err := decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("the line is no JSON object: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more on the line than one JSON object")
	}
	switch kindOf(object) {
	case kindNull:
		return nil, nil
	case kindObject:
	default:
		return nil, errors.New("the line is no JSON object")
	}
	decoder = json.NewDecoder(bytes.NewReader(object))
	_, err = decoder.Token() // the brace
	for err == nil && decoder.More() {
		var key json.Token
		if key, err = decoder.Token(); err != nil {
			break
		}
		m := member{key: key.(string)}
		if err = decoder.Decode(&m.value); err == nil {
			members = append(members, m)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the line is no JSON object: %w", err)
	}
	return members, nil
}

// valueOf returns the value of a key, and nil if there is none.
func valueOf(members []member, key string) json.RawMessage {
	for _, m := range members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// isUnique reports whether there is at most one value of a key.
func isUnique(members []member, key string) bool {
	count := 0
	for _, m := range members {
		if m.key == key {
			count++
		}
	}
	return count <= 1
}

// A kind is the type of a JSON value.
type kind int

const (
	kindNone kind = iota // no value
	kindNull
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject
)

// kindOf decides by the first byte, which is enough because the value is valid.
func kindOf(value json.RawMessage) kind {
	if len(value) == 0 {
		return kindNone
	}
	switch value[0] {
	case 'n':
		return kindNull
	case 't', 'f':
		return kindBool
	case '"':
		return kindString
	case '[':
		return kindArray
	case '{':
		return kindObject
	}
	return kindNumber
}

// Python's surrogateescape (PEP 383) has U+DC80 to U+DCFF for those bytes from 0x80 to 0xff that are no UTF-8.
const (
	escapeBase  = 0xdc00
	firstEscape = escapeBase + utf8.RuneSelf
	lastEscape  = escapeBase + 0xff
)

// characters yields the characters of a JSON string: a lone surrogate as it is, and a byte that is no UTF-8 as the surrogate of
// surrogateescape.
func characters(quoted []byte) iter.Seq[rune] {
	return func(yield func(rune) bool) {
		for rest := quoted[1 : len(quoted)-1]; len(rest) > 0; {
			r, size := utf8.DecodeRune(rest)
			switch {
			case r == '\\':
				r, size = escaped(rest)
			case r == utf8.RuneError && size == 1:
				r = escapeBase + rune(rest[0])
			}
			if !yield(r) {
				return
			}
			rest = rest[size:]
		}
	}
}

// escaped returns the character that an escape sequence stands for, and the length of the sequence, which has to be valid.
func escaped(text []byte) (r rune, size int) {
	if text[1] != 'u' {
		if i := strings.IndexByte(`bfnrt`, text[1]); i >= 0 {
			return rune("\b\f\n\r\t"[i]), 2
		}
		return rune(text[1]), 2 // "\/
	}
	const long = len(`\u0000`)
	unit := func(text []byte) rune {
		n, _ := strconv.ParseUint(string(text[2:long]), 16, 16)
		return rune(n)
	}
	r = unit(text)
	if utf16.IsSurrogate(r) && bytes.HasPrefix(text[long:], []byte(`\u`)) {
		if pair := utf16.DecodeRune(r, unit(text[long:])); pair != utf8.RuneError {
			return pair, 2 * long
		}
	}
	return r, long
}

// unquote returns the bytes that a JSON string stands for. It refuses a NUL byte, because the kernel ends strings at one.
func unquote(quoted []byte) (string, error) {
	text := make([]byte, 0, len(quoted))
	for r := range characters(quoted) {
		switch {
		case r == 0:
			return "", fmt.Errorf("NUL byte in %.40s", canonical(quoted))
		case r >= firstEscape && r <= lastEscape:
			text = append(text, byte(r-escapeBase))
		case utf16.IsSurrogate(r):
			return "", fmt.Errorf(`\u%04x in %.40s: it stands for no byte; only \udc80 to \udcff do, by themselves`, r, canonical(quoted))
		default:
			text = utf8.AppendRune(text, r)
		}
	}
	return string(text), nil
}

// canonical writes a JSON string in one of the many possible ways: it is valid, and no character is lost.
func canonical(quoted []byte) string {
	text := append(make([]byte, 0, len(quoted)), '"')
	for r := range characters(quoted) {
		switch {
		case r == '"' || r == '\\':
			text = append(text, '\\', byte(r))
		case r < ' ' || r == '\u2028' || r == '\u2029' || utf16.IsSurrogate(r): // some readers split lines at those two
			text = fmt.Appendf(text, `\u%04x`, r)
		default:
			text = utf8.AppendRune(text, r)
		}
	}
	return string(append(text, '"'))
}
