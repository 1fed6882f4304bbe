//go:build !cgo

package reexec

const usesCgo = false
