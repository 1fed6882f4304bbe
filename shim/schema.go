package shim

import _ "embed" // for Schema

// Schema is the JSON Schema (2020-12) of a Result's and each Event's JSON. It is made from the types and their comments, by make generate;
// the tests hold it against the types.
//
//go:embed schema.json
var Schema string
