// Package advice knows what to do about an error. One table (table.go) has a row for each class of errors: the hint that
// goes with a Result, the check of cgshim doctor that is about the same, and what that recommends.
package advice

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cgroup"
	"github.com/cgshim/cgshim/reexec"
	"github.com/cgshim/cgshim/shim/internal/place"
	"github.com/cgshim/cgshim/shim/internal/sys"
)

// A Situation is what advice depends on: an error, if there is one, and the system. See About and On.
type Situation struct {
	step    string   // of the run, at which it failed
	err     error    // nil if nothing has failed
	program *Program // that was to be run; nil is unknown
	root    bool
	sysctl  func(name string) string // "" for one that there is not

	// For remedies only.
	version   cgroup.Version // 0 without a hierarchy
	systemd   bool           // it manages the host
	container bool
}

// About is the situation of an error that came at a step of a run. A nil program is an unknown one.
func About(step string, err error, program *Program) *Situation {
	return &Situation{step: step, err: err, program: program.found(err), root: os.Geteuid() == 0, sysctl: readSysctl}
}

// On looks at the system, for Remedy. A nil host is none.
func (s *Situation) On(host *cgroup.Host) *Situation {
	s.systemd, s.container = sys.SystemdBooted(), os.Getenv("container") != ""
	if host != nil {
		s.version = host.Version()
		s.container = s.container || !place.IsRoot(host)
	}
	// What docker, podman, and systemd's container interface leave there.
	for _, file := range []string{"/.dockerenv", "/run/.containerenv", "/run/systemd/container"} {
		s.container = s.container || unix.Access(file, unix.F_OK) == nil
	}
	return s
}

func readSysctl(name string) string {
	content, _ := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	return strings.TrimSpace(string(content))
}

// A row is what there is to say about a class of errors, or about a check.
type row struct {
	is       func(*Situation) bool   // the class; nil is none: what a check recommends otherwise
	check    string                  // of cgshim doctor: a name, the beginning of several in rows without a class, or as follows
	detail   func(*Situation) string // looks closer, and takes the place of the hint unless it is ""; nil is none
	hints    []choice
	remedies []choice
}

// In the place of a row's check.
const (
	noCheck = "-" // doctor would find nothing: the error is the caller's or the program's own
	byError = ""  // that of the controller that the error is about, or else "permission" at the steps of a cgroup
)

// A choice is one of several texts: the first that fits counts.
type choice struct {
	when func(*Situation) bool // nil is always
	text string
}

func (s *Situation) choose(choices []choice) string {
	for _, c := range choices {
		if c.when == nil || c.when(s) {
			return c.text
		}
	}
	return ""
}

// class is the row of the error; nil if nothing has failed.
func (s *Situation) class() *row {
	if s.err == nil {
		return nil
	}
	rows := table()
	i := slices.IndexFunc(rows, func(r row) bool { return r.is != nil && r.is(s) })
	return &rows[i] // the last class has all
}

// Hint says what to do about the error, and which check of cgshim doctor tells more; "" if there is nothing useful to say.
func (s *Situation) Hint() string {
	r := s.class()
	hint, check := s.hint(r), s.check(r)
	switch {
	case check == "":
		return hint
	case hint == "":
		return "cgshim doctor tells more: see " + check
	}
	return hint + " (cgshim doctor: " + check + ")"
}

// hint is that of the row, without the check.
func (s *Situation) hint(r *row) string {
	if r == nil {
		return ""
	}
	if r.detail != nil {
		if hint := r.detail(s); hint != "" {
			return hint
		}
	}
	return s.choose(r.hints)
}

// Check is the check of cgshim doctor that the error is about; "" if none is.
func (s *Situation) Check() string { return s.check(s.class()) }

func (s *Situation) check(r *row) string {
	switch {
	case r == nil, r.check == noCheck:
		return ""
	case r.check == byError:
		return s.checkByError()
	}
	return r.check
}

func (s *Situation) checkByError() string {
	var e *cgroup.Error
	if errors.As(s.err, &e) {
		if controller := controllerOf(e); controller != "" {
			return "controller-" + controller
		}
	}
	if at("cgroup", "limit", "join", "stage")(s) {
		return "permission"
	}
	return ""
}

// Remedy is what to do about a check that is not ok: lines for a shell. IMAGE and PROG are the caller's to fill in.
func (s *Situation) Remedy(check string) string {
	for _, r := range table() {
		if r.check == byError || !strings.HasPrefix(check, r.check) || r.is != nil && !r.is(s) {
			continue
		}
		if lines := s.choose(r.remedies); lines != "" {
			name := strings.TrimPrefix(check, "controller-")
			if s.v1() && name == "io" {
				name = "blkio"
			}
			return strings.ReplaceAll(lines, "CONTROLLER", name)
		}
	}
	return ""
}

// Conditions of rows and choices.

func (s *Situation) v1() bool     { return s.version == cgroup.V1 }
func (s *Situation) asRoot() bool { return s.root }
func (s *Situation) user() bool   { return !s.root }
func (s *Situation) boxed() bool  { return s.container || errors.Is(s.err, unix.EROFS) }
func (s *Situation) managed() bool {
	return s.user() && s.systemd && s.version == cgroup.V2
}

func all(conditions ...func(*Situation) bool) func(*Situation) bool {
	return func(s *Situation) bool {
		return !slices.ContainsFunc(conditions, func(is func(*Situation) bool) bool { return !is(s) })
	}
}

func either(conditions ...func(*Situation) bool) func(*Situation) bool {
	return func(s *Situation) bool {
		return slices.ContainsFunc(conditions, func(is func(*Situation) bool) bool { return is(s) })
	}
}

// because says that the error is one of some.
func because(causes ...error) func(*Situation) bool {
	return func(s *Situation) bool {
		return slices.ContainsFunc(causes, func(cause error) bool { return errors.Is(s.err, cause) })
	}
}

// at says that the run failed at one of some steps.
func at(steps ...string) func(*Situation) bool {
	return func(s *Situation) bool { return slices.Contains(steps, s.step) }
}

// atGroup says that it failed at what the kernel says of a cgroup.
func (s *Situation) atGroup() bool { return at("cgroup", "limit", "join")(s) }

// launching says that a launch failed at a step, with one of some errnos; none is any.
func launching(step reexec.Step, errnos ...unix.Errno) func(*Situation) bool {
	return func(s *Situation) bool {
		var e *reexec.Error
		return errors.As(s.err, &e) && e.Step == step && (len(errnos) == 0 || slices.Contains(errnos, e.Errno))
	}
}

// launched says that the error is one of a launch.
func (s *Situation) launched() bool {
	var e *reexec.Error
	return errors.As(s.err, &e)
}

// lacksProc says that a file of /proc is missing.
func (s *Situation) lacksProc() bool {
	return errors.Is(s.err, fs.ErrNotExist) && strings.Contains(s.err.Error(), `"/proc/`)
}

// noProc is lacksProc, or that /proc/self/exe is missing, which a stage is made of.
func (s *Situation) noProc() bool {
	return launching(reexec.StepStage, unix.ENOENT)(s) || s.lacksProc()
}

func (s *Situation) noRoom() bool { return because(unix.ENOSPC, unix.EAGAIN)(s) }

// aboutCPUSet says that the error is about a file of the cpuset controller.
func (s *Situation) aboutCPUSet() bool { return strings.Contains(s.err.Error(), "/cpuset.") }

// aboutCPU says that an error is about entering a group of the cpu controller, or enabling that.
func (s *Situation) aboutCPU() bool {
	var e *cgroup.Error
	if !errors.As(s.err, &e) {
		return false
	}
	if path.Base(e.Path) == "cgroup.subtree_control" {
		return slices.Contains(strings.Fields(e.Value), "+cpu")
	}
	// The mount point of a v1 hierarchy is named for its controllers: /sys/fs/cgroup/cpu,cpuacct.
	named := func(c rune) bool { return c == '/' || c == ',' }
	return path.Base(e.Path) == "tasks" && slices.Contains(strings.FieldsFunc(e.Path, named), "cpu")
}

// realTime says that the cpu controller may refuse a process for its real-time policy. One that joins is this process's child,
// and has the policy of this thread.
func (s *Situation) realTime() bool { return s.aboutCPU() && (s.step != "join" || hasRealTime()) }

func (s *Situation) aboutIO() bool {
	var e *cgroup.Error
	return errors.As(s.err, &e) && (path.Base(e.Path) == "io.max" || strings.HasPrefix(path.Base(e.Path), "blkio."))
}

// controllerOf is the controller that an error is about: one that is not there, or can't be enabled, or whose limit
// can't be written; "" if it is about none.
func controllerOf(e *cgroup.Error) string {
	word, _, _ := strings.Cut(path.Base(e.Path), ".") // memory.max
	switch {
	case errors.Is(e, cgroup.ErrNoController):
		word = e.Value
	case e.Op == "create": // a name that somebody has chosen
		return ""
	case path.Base(e.Path) == "cgroup.subtree_control": // "+memory +pids"
		word, _, _ = strings.Cut(strings.TrimPrefix(e.Value, "+"), " ")
	}
	switch word {
	case "memory", "pids", "cpu", "cpuset", "io":
		return word
	case "cpuacct":
		return "cpu"
	case "blkio":
		return "io"
	}
	return ""
}
