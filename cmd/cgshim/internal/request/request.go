// Package request reads the requests of cgshim batch: one JSON object a line.
//
// A request has a program with its arguments, and the flags of a run; or it cancels another request.
package request

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/shim"
)

// None is the ID of a request without one.
const None = "null"

// A Request is one line of a batch's input.
type Request struct {
	ID      string      // JSON: a string, a number, or None
	Cancels string      // the ID of the request to cancel; "" if this is one to run
	Config  shim.Config // of a run, without its files
	Flags   flags.Given // of a run; they name its files
}

// notOfRequests are the flags about the place for the result and about the caller, which are the batch's, and --help.
var notOfRequests = []string{"fd", "output", "pretty", "events", "alive-fd", "die-with-caller", "help"}

// Parse reads a request. On error the request has its ID, if that could be read.
func Parse(line []byte) (r Request, err error) {
	r.ID = None
	members, err := readObject(line)
	if err != nil {
		return r, err
	}
	id, idErr := requestID(valueOf(members, "id"))
	if err := unique(members); err != nil {
		if isUnique(members, "id") {
			r.ID = id
		}
		return r, err
	}
	if r.ID = id; idErr != nil {
		return r, idErr
	}
	if other := valueOf(members, "cancel"); other != nil {
		if r.Cancels, err = requestID(other); err == nil && (len(members) > 1 || r.Cancels == None) {
			err = errors.New(`"cancel": want the id of a request, and nothing else`)
		}
		return r, err
	}
	args, err := texts("argv", valueOf(members, "argv"), flags.AsWritten)
	if err != nil {
		return r, err
	}
	r.Config.Args = args // for the answer, if the flags are refused
	r.Flags = flags.Given{}
	for _, m := range members {
		if m.key == "id" || m.key == "argv" || m.isNull() {
			continue
		}
		if err := set(r.Flags, m.key, m.value); err != nil {
			return r, err
		}
	}
	r.Config, err = flags.NewConfig(r.Flags, args)
	return r, err
}

// unique refuses two keys of one name, and two names of one flag, because it is not clear which one was meant.
func unique(members []member) error {
	first := map[string]string{}
	for _, m := range members {
		name := m.key
		if flag, ok := keyOf(m.key); ok {
			name = flag.name
		}
		other, again := first[name]
		switch {
		case again && other == m.key:
			return fmt.Errorf("%q: given twice", m.key)
		case again:
			return fmt.Errorf("%q: given twice, %q is the same flag", m.key, other)
		}
		first[name] = m.key
	}
	return nil
}

// requestID reads an ID, which is a string or a number, and returns it as JSON. It is the same for equal strings, however they are escaped.
func requestID(value json.RawMessage) (string, error) {
	switch kind := kindOf(value); {
	case kind == kindNone, kind == kindNull:
		return None, nil
	case kind == kindNumber:
		return string(value), nil
	case kind == kindString:
		return canonical(value), nil
	}
	return None, errors.New(`"id": want a string or a number`)
}

// set adds the flag of a key to those that were given.
func set(given flags.Given, key string, value json.RawMessage) error {
	flag, ok := keyOf(key)
	if !ok {
		return fmt.Errorf("%q: no such key; those are the flags of a run, id, argv and cancel", key)
	}
	kind := kindOf(value)
	switch {
	case kind == kindBool && flag.kind != flags.Switch:
		return fmt.Errorf("%q: want a string or a number", key)
	case kind != kindBool && flag.kind == flags.Switch:
		return fmt.Errorf("%q: want true or false", key)
	case kind == kindBool:
		if value[0] == 't' {
			given[flag.name] = []string{"true"}
		}
		return nil
	case kind == kindArray && flag.kind != flags.List:
		return fmt.Errorf("%q: want one value", key)
	case kind != kindArray:
		value = slices.Concat(json.RawMessage("["), value, json.RawMessage("]"))
	}
	list, err := texts(key, value, flag.number)
	if err == nil && len(list) > 0 {
		given[flag.name] = list
	}
	return err
}

// texts returns the strings of a JSON array, and its numbers as text.
func texts(key string, value json.RawMessage, number func(string) (string, error)) ([]string, error) {
	var array []json.RawMessage
	if kindOf(value) != kindArray || json.Unmarshal(value, &array) != nil {
		return nil, fmt.Errorf("%q: want strings", key)
	}
	list := make([]string, len(array))
	for i, element := range array {
		var err error
		switch kindOf(element) {
		case kindString:
			if list[i], err = unquote(element); err != nil {
				return nil, fmt.Errorf("%q: %w", key, err)
			}
		case kindNumber:
			if list[i], err = number(string(element)); err != nil {
				return nil, fmt.Errorf("--%s %.40q: %w", key, element, err)
			}
		default:
			return nil, fmt.Errorf("%q: want strings", key)
		}
	}
	return list, nil
}

// A key is a key of a request that is a flag.
type key struct {
	name   string // the flag's first one
	kind   flags.Kind
	number func(json string) (text string, err error) // writes a JSON number as on the command line
}

// keys are the keys of a request by all names of the flags.
var keys = sync.OnceValue(func() map[string]key {
	all := map[string]key{}
	for _, flag := range flags.Run() {
		names := flag.Names()
		if slices.Contains(notOfRequests, names[0]) {
			continue
		}
		for _, name := range names {
			all[name] = key{names[0], flags.KindOf(flag), flags.Number(flag)}
		}
	}
	return all
})

func keyOf(name string) (key, bool) {
	k, ok := keys()[name]
	return k, ok
}

// Tag puts an ID in front of the other members of a JSON object, as the member "id".
func Tag(id string, object []byte) []byte {
	return append([]byte(`{"id":`+id+","), object[1:]...)
}
