package shim

import _ "embed" // for Schema

// Schema is the JSON Schema (2020-12) of a Result's and each Event's JSON. It is kept by hand; the tests
// hold it against the types.
//
//go:embed schema.json
var Schema string
