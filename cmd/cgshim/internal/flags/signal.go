package flags

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

// ParseSignal parses TERM, SIGTERM or 15. It takes the signals that cgshim forwards to a run, and KILL.
func ParseSignal(value string) (unix.Signal, error) {
	number := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(value), "SIG"))
	if n, err := strconv.Atoi(value); err == nil {
		number = unix.Signal(n)
	}
	if slices.Contains(signals(), number) {
		return number, nil
	}
	return 0, fmt.Errorf("want one of %s", strings.Join(signalNames(), ", "))
}

// signals returns the signals that ParseSignal takes.
func signals() []unix.Signal {
	list := []unix.Signal{unix.SIGKILL}
	for _, sig := range shim.ForwardedSignals() {
		list = append(list, sig.(unix.Signal))
	}
	return list
}

// signalNames returns the names of the signals, without SIG.
func signalNames() []string {
	var names []string
	for _, sig := range signals() {
		names = append(names, strings.TrimPrefix(unix.SignalName(sig), "SIG"))
	}
	slices.Sort(names)
	return names
}
