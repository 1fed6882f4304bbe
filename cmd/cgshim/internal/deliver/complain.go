package deliver

import (
	"strings"

	"github.com/cgshim/cgshim/shim"
)

// Complain tells a person on stderr what went wrong, and what to do about it.
func Complain(e *shim.ErrorInfo) error {
	text := "cgshim: error: " + brief(e.Message) + "\n"
	if e.Hint != nil {
		text += "cgshim: hint: " + brief(*e.Hint) + "\n"
	}
	return Tell(text)
}

// Tell writes a text to stderr. A write to os.Stderr would end cgshim with SIGPIPE if the reader is gone, and would never return if
// nobody reads.
func Tell(text string) error { return stderr.write([]byte(text)) }

// brief cuts a message that quotes something very long, because perhaps nobody reads stderr before cgshim has ended.
func brief(message string) string {
	const most = 4 << 10
	if len(message) <= most {
		return message
	}
	return strings.ToValidUTF8(message[:most], "") + "…"
}
