package shim

import (
	"encoding/base64"
	"sort"
	"unicode/utf8"
)

// A caller that reads the result after cgshim has ended gets it from a pipe, which has room for 64 KiB: what is longer
// would have to be read meanwhile. The arguments can be megabytes, and messages and limits can quote them.
const (
	maxResult = 63 << 10 // the rest is for an id in front, see "cgshim batch"
	// maxText is what is left of a text that is not an argument, if the result would be too long otherwise.
	maxText = 2 << 10
	// maxTexts is how many are left of a list: warnings, and paths.
	maxTexts = 8
	cutMark  = "…"
)

// shortened is the result on one line or several, as encode has it, at most maxResult long: the first arguments, as far
// as there is room. Before them, texts are cut that are much longer than anything which cgshim says by itself.
func (r *Result) shortened(pretty bool) []byte {
	short := *r
	short.Argv, short.ArgvTruncated = []string{}, true
	if len(short.encode(pretty)) > maxResult/2 {
		short.cutTexts()
	}
	odd := r.exact().ArgvBase64 != nil // each is there twice then
	room := maxResult - len(short.encode(pretty)) - len("false") - len("\n  \"argv_base64\": [\n  ],")
	for _, arg := range r.Argv {
		size := argumentSize(arg, odd, pretty)
		if size > room {
			if arg = cutArgument(arg, room, odd, pretty); arg != "" {
				short.Argv = append(short.Argv, arg)
			}
			return short.encode(pretty)
		}
		short.Argv = append(short.Argv, arg)
		room -= size
	}
	short.ArgvTruncated = false
	return short.encode(pretty)
}

// cutTexts cuts what may quote the caller's words.
func (r *Result) cutTexts() {
	r.Limits.CPUSetCPUs = cutText(r.Limits.CPUSetCPUs)
	r.Limits.CPUSetMems = cutText(r.Limits.CPUSetMems)
	r.Limits.FSRo, r.Limits.FSRw = cutList(r.Limits.FSRo), cutList(r.Limits.FSRw)
	r.Warnings = cutList(r.Warnings)
	if r.Error == nil {
		return
	}
	e := *r.Error
	e.Message = cutText(e.Message)
	if e.Hint != nil {
		e.Hint = optional(cutText(*e.Hint))
	}
	r.Error = &e
}

func cutList(list []string) []string {
	cut := append([]string{}, list[:min(len(list), maxTexts)]...)
	for i := range cut {
		cut[i] = cutText(cut[i])
	}
	return cut
}

func cutText(text string) string {
	if len(text) <= maxText {
		return text
	}
	return cut(text, maxText) + cutMark
}

// cut is the beginning of a string, in whole characters.
func cut(s string, size int) string {
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:size]
}

// cutArgument is as much of an argument as there is room for; "" if that is nothing.
func cutArgument(arg string, room int, odd, pretty bool) string {
	size := sort.Search(min(len(arg), room), func(size int) bool { return argumentSize(cut(arg, size)+cutMark, odd, pretty) > room }) - 1
	if size <= 0 {
		return ""
	}
	return cut(arg, size) + cutMark
}

// argumentSize is what an argument takes in the result at most: with a comma, or the end of the line.
func argumentSize(arg string, odd, pretty bool) int {
	w := jsonWriter{}
	w.quote(arg)
	size, indent := len(w.b)+len(","), 0
	if pretty {
		indent = len("\n    ")
	}
	if size += indent; odd {
		size += base64.StdEncoding.EncodedLen(len(arg)) + len(`"",`) + indent
	}
	return size
}

// JSON is the result on one line, with a newline; pretty spreads it over several. It is at most 63 KiB long, so that a pipe
// takes it whole before anybody reads: Argv is cut for that, and what else may be long. Its strings are UTF-8 without lone
// surrogates, because strict readers refuse a whole line for one of those, and with U+FFFD for each byte that is none;
// base64 tells the bytes.
func (r *Result) JSON(pretty bool) []byte {
	whole := r.encode(pretty)
	if len(whole) <= maxResult {
		return whole
	}
	return r.shortened(pretty)
}
