//go:build cgo

package reexec

const usesCgo = true
