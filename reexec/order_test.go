package reexec

import (
	"encoding/binary"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An image is a stage's memory from an address on, with an order in it. What reads it follows no pointer out of it.
type image struct {
	t     *testing.T
	b     []byte
	order order
	fds   []int
}

// composed is an order, for a stage that need not be there.
func composed(t *testing.T, spec *Spec, join Join, descriptors Descriptors) *image {
	t.Helper()
	b, fds, err := compose(spec, join, descriptors, true)
	if err != nil {
		t.Fatalf("compose: %v", err)
	}
	m := &image{t: t, b: b, fds: fds}
	copy((*[unsafe.Sizeof(order{})]byte)(unsafe.Pointer(&m.order))[:], b)
	return m
}

func (m *image) at(address uintptr) []byte {
	m.t.Helper()
	if address < orderAddress+orderSize || address > orderAddress+uintptr(len(m.b)) {
		m.t.Fatalf("%#x is not behind an order of %d bytes at %#x", address, len(m.b), orderAddress)
	}
	return m.b[address-orderAddress:]
}

func (m *image) string(address uintptr) string {
	m.t.Helper()
	s, _, ended := strings.Cut(string(m.at(address)), "\x00")
	if !ended {
		m.t.Fatalf("the string at %#x has no end", address)
	}
	return s
}

// words are n of 8 bytes, where the processor wants them.
func (m *image) words(address uintptr, n int) (words []uint64) {
	m.t.Helper()
	b := m.at(address)
	if address%8 != 0 || len(b) < 8*n {
		m.t.Fatalf("no %d words at %#x", n, address)
	}
	for i := range n {
		words = append(words, binary.NativeEndian.Uint64(b[8*i:]))
	}
	return words
}

// list is an array of pointers as execve takes it.
func (m *image) list(address uintptr) (list []string) {
	m.t.Helper()
	for {
		pointer := uintptr(m.words(address, 1)[0])
		if pointer == 0 {
			return list
		}
		list = append(list, m.string(pointer))
		address += 8
	}
}

func (m *image) paths() []string { return m.list(m.order.paths) }

// spec is what the stage and the program will do, as a spec that asks for it. The resource limits are sorted.
func (m *image) spec() *Spec {
	m.t.Helper()
	o := &m.order
	spec := &Spec{
		Args: m.list(o.argv), Env: m.list(o.envv), AllowNewPrivs: true, NewNet: o.flags&orderNewNet != 0,
	}
	if o.dir != 0 {
		spec.Dir = m.string(o.dir)
	}
	who := new(Credential)
	for i := range o.calls[:o.count] {
		switch c := &o.calls[i]; c.trap {
		case unix.SYS_SCHED_SETAFFINITY:
			spec.Affinity = m.words(c.a3, int(c.a2/8))
			spec.AffinityOptional = c.flags&callOptional != 0
		case unix.SYS_PRLIMIT64:
			if c.index >= 0 { // else it is the caller's
				limit := m.words(c.a3, 2)
				spec.Rlimits = append(spec.Rlimits, Rlimit{int(c.a2), limit[0], limit[1]})
			}
		case unix.SYS_SETGROUPS:
			spec.Credential = who
			for b := m.at(c.a2); len(who.Groups) < int(c.a1); b = b[4:] {
				who.Groups = append(who.Groups, binary.NativeEndian.Uint32(b))
			}
		case unix.SYS_SETRESGID:
			who.GID = uint32(c.a1)
		case unix.SYS_SETRESUID:
			who.UID = uint32(c.a1)
		case unix.SYS_PRCTL:
			spec.AllowNewPrivs = spec.AllowNewPrivs && c.a1 != unix.PR_SET_NO_NEW_PRIVS
		case unix.SYS_GETPPID:
			if c.want != uintptr(os.Getpid()) {
				m.t.Errorf("the parent is to be %d", c.want)
			}
		case unix.SYS_RT_SIGPROCMASK:
			if mask := m.words(c.a2, 1)[0]; mask != 0 {
				m.t.Errorf("the program has the signal mask %#x", mask)
			}
		}
	}
	slices.SortFunc(spec.Rlimits, func(a, b Rlimit) int { return a.Resource - b.Resource })
	return spec
}

// normal is the spec that image.spec reads for this one: what changes nothing is gone from it.
func normal(spec Spec) *Spec {
	var last [rlimits]*Rlimit
	for i := range spec.Rlimits {
		last[spec.Rlimits[i].Resource] = &spec.Rlimits[i]
	}
	spec.Rlimits = nil
	for _, limit := range last {
		if limit != nil {
			spec.Rlimits = append(spec.Rlimits, *limit)
		}
	}
	if len(spec.Env) == 0 {
		spec.Env = nil
	}
	if len(spec.Affinity) == 0 {
		spec.Affinity, spec.AffinityOptional = nil, false
	}
	if who := spec.Credential; who != nil && len(who.Groups) == 0 {
		spec.Credential = &Credential{UID: who.UID, GID: who.GID}
	}
	return &spec
}

// candidates are where execvp(3) looks for a program.
func candidates(name string, env []string) (paths []string) {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path := "/bin:/usr/bin"
	for _, kv := range slices.Backward(env) {
		if value, is := strings.CutPrefix(kv, "PATH="); is {
			path = value
		}
	}
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		if name != "" {
			paths = append(paths, dir+"/"+name)
		}
	}
	return paths
}

// checkCompose holds what the bytes of an order say against the spec that they are for.
func checkCompose(t *testing.T, spec *Spec) {
	t.Helper()
	m := composed(t, spec, Join{}, Descriptors{})
	if got, want := m.spec(), normal(*spec); !reflect.DeepEqual(got, want) {
		t.Errorf("the order says %+v, want %+v", got, want)
	}
	if got, want := m.paths(), candidates(spec.Args[0], spec.Env); !slices.Equal(got, want) {
		t.Errorf("the program is looked for in %q, want %q", got, want)
	}
	if search := m.order.flags&orderSearch != 0; search == strings.Contains(spec.Args[0], "/") {
		t.Errorf("%q: it is searched for: %v", spec.Args[0], search)
	}
	if last := &m.order.calls[m.order.count-1]; last.trap != unix.SYS_RT_SIGPROCMASK || last.a1 != unix.SIG_SETMASK || last.a4 != sigsetSize || m.words(last.a2, 1)[0] != 0 {
		t.Errorf("the last call before execve is %+v", last)
	}
}

func TestCompose(t *testing.T) {
	for name, spec := range map[string]Spec{
		"minimal": {Args: []string{"true"}},
		"everything": {
			Args: []string{"a", "b"}, Env: []string{"K=V", "L=W", "PATH=/x::/y"}, Dir: "/tmp", AllowNewPrivs: true, NewNet: true,
			Rlimits:    []Rlimit{{7, 1, 2}, {9, ^uint64(0), ^uint64(0)}, {7, 3, 4}},
			Credential: &Credential{1, 2, []uint32{3, 4, 5}}, Affinity: []uint64{1, 1 << 63}, AffinityOptional: true,
		},
		"no groups":       {Args: []string{"x"}, Credential: &Credential{UID: 7, GID: 8}},
		"must be there":   {Args: []string{"x"}, Affinity: []uint64{3}},
		"empty strings":   {Args: []string{"", ""}, Env: []string{"", ""}},
		"odd bytes":       {Args: []string{"\xff\n\x01"}, Env: []string{"no equals sign", "=x", "\x80=\xfe"}, Dir: "\xc3\x28"},
		"env like args":   {Args: []string{"x"}, Env: []string{"x", "y", "z"}},
		"with a slash":    {Args: []string{"./x"}, Env: []string{"PATH=/y"}},
		"a long argument": {Args: []string{strings.Repeat("x", 1<<20)}},
	} {
		t.Run(name, func(t *testing.T) {
			checkCompose(t, &spec)
		})
	}
}

// The order of the system calls is what makes each of them work: see plan.
func TestPlan(t *testing.T) {
	spec := &Spec{
		Args: []string{"x"}, Affinity: []uint64{1}, Credential: &Credential{UID: 1},
		Rlimits: []Rlimit{{unix.RLIMIT_NPROC, 1, 1}},
	}
	m := composed(t, spec, Join{Into: 30, Procs: 31, Tasks: []int{32, 33}}, Descriptors{})
	var got []uintptr
	for i := range m.order.calls[:m.order.count] {
		got = append(got, m.order.calls[i].trap)
	}
	want := []uintptr{
		unix.SYS_WRITE, unix.SYS_WRITE, unix.SYS_WRITE, unix.SYS_SETSID, unix.SYS_SCHED_SETAFFINITY,
		unix.SYS_SETGROUPS, unix.SYS_SETRESGID, unix.SYS_SETRESUID, unix.SYS_CAPSET, unix.SYS_PRLIMIT64, unix.SYS_PRLIMIT64,
		unix.SYS_PRCTL, unix.SYS_PRCTL, unix.SYS_GETPPID,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION,
		unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK,
	}
	if !slices.Equal(got, want) {
		t.Errorf("system calls %d, want %d", got, want)
	}
	// Who is born in the cgroup2 group has to join the others only.
	if m.order.born != 1 {
		t.Errorf("a program that was born in its group begins with call %d, want 1", m.order.born)
	}
	for i := range 3 {
		// The directory comes first, and is none to write to.
		c := &m.order.calls[i]
		if c.flags != callDescriptor || c.a1 != uintptr(i+1) || c.index != i || c.a3 != 1 || m.string(c.a2) != "0" {
			t.Errorf("join %d: %+v", i, c)
		}
	}
}

// A limit above the hard one is raised while there is a privilege to do so.
func TestPlanRaises(t *testing.T) {
	requireRoot(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &old); err != nil {
		t.Fatal(err)
	}
	const hard = 1 << 20
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 0, Max: hard}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &old) }()
	for limit, want := range map[uint64]bool{hard - 1: true, hard: true, hard + 1: false} {
		spec := &Spec{Args: []string{"x"}, Credential: &Credential{UID: 1}, Rlimits: []Rlimit{{unix.RLIMIT_CORE, 0, limit}}}
		if got := userFirst(t, spec); got != want {
			t.Errorf("hard limit %d of %d: the user comes first: %v", limit, hard, got)
		}
	}
}

// userFirst says whether a program changes its user before it sets the first of its limits.
func userFirst(t *testing.T, spec *Spec) bool {
	t.Helper()
	m := composed(t, spec, Join{}, Descriptors{})
	calls := m.order.calls[:m.order.count]
	user := slices.IndexFunc(calls, func(c systemCall) bool { return c.trap == unix.SYS_SETRESUID })
	limit := slices.IndexFunc(calls, func(c systemCall) bool { return c.trap == unix.SYS_PRLIMIT64 && c.index == 0 })
	return user < limit
}

func TestComposeDescriptors(t *testing.T) {
	spec := &Spec{Args: []string{"x"}}
	m := composed(t, spec, Join{Into: 10, Procs: 11, Tasks: []int{12}}, Descriptors{Stdio: &[3]int{0, 13, 13}, Keep: []int{14, 3}})
	if want := []int{10, 11, 12, 0, 13, 13, 14, 3}; !slices.Equal(m.fds, want) {
		t.Errorf("descriptors %d, want %d", m.fds, want)
	}
	o := &m.order
	if o.joins != 3 || o.stdio != 3 || o.keeps != 2 || o.keep[0] != 14 || o.keep[1] != 3 {
		t.Errorf("%d to join, %d stdio, %d to keep, as %d", o.joins, o.stdio, o.keeps, o.keep[:2])
	}
	if want := uintptr(orderInto | orderClone3 | orderSearch); o.flags != want {
		t.Errorf("flags %b, want %b", o.flags, want)
	}
	if o.clone.flags&cloneIntoCgroup == 0 {
		t.Error("it is not born in the group")
	}
	m = composed(t, spec, Join{noInto: true}, Descriptors{})
	if len(m.fds) != 0 || m.order.flags != orderSearch || m.order.clone.flags&cloneIntoCgroup != 0 || m.order.born != 0 {
		t.Errorf("without any: descriptors %d, %+v", m.fds, m.order)
	}
}

// The most that can be asked for fits. More is an error, and not a call less.
func TestTooManyCalls(t *testing.T) {
	spec := &Spec{Args: []string{"x"}, Affinity: []uint64{1}, Credential: &Credential{UID: 1}}
	for resource := range rlimits {
		spec.Rlimits = append(spec.Rlimits, Rlimit{Resource: resource})
	}
	composed(t, spec, Join{Into: 10, Procs: 11, Tasks: make([]int, maxTasks)}, Descriptors{})

	c := new(composer)
	for i := range maxSystemCalls {
		if c.add(StepJoin, i, unix.SYS_WRITE, 0, 0, 0); c.err != nil {
			t.Fatalf("call %d: %v", i, c.err)
		}
	}
	c.add(StepRlimit, 5, unix.SYS_PRLIMIT64, 0, 0, 0).flags = callOptional
	if want := (Error{Step: StepRlimit, Errno: unix.E2BIG, Index: 5}); c.err == nil || *c.err != want {
		t.Errorf("one call more: %+v, want %+v", c.err, want)
	}
	if last := c.calls[maxSystemCalls-1]; c.count != maxSystemCalls || last.index != maxSystemCalls-1 || last.flags != 0 {
		t.Errorf("%d calls, the last one %+v", c.count, last)
	}
}

// An order that does not fit into a stage's memory is an error before anything is sent; one that just does is none.
func TestTooLarge(t *testing.T) {
	spec := &Spec{Args: []string{"x", ""}}
	long := func(n int) { spec.Args[1] = strings.Repeat("x", n) }
	b, _, err := compose(spec, Join{}, Descriptors{}, false)
	if err != nil {
		t.Fatal(err)
	}
	room := int(orderRoom) - len(b)
	long(room)
	b, _, err = compose(spec, Join{}, Descriptors{}, false)
	if err != nil || len(b) > int(orderRoom) || len(b) < int(orderRoom)-8 {
		t.Fatalf("%d bytes for %d: %v", len(b), orderRoom, err)
	}
	s := newMemory(t)
	s.load(b) // there is memory up to the end
	long(room + 8)
	_, _, err = compose(spec, Join{}, Descriptors{}, false)
	var e *Error
	if want := (Error{Step: StepExec, Errno: unix.E2BIG, Arg: "x"}); !errors.As(err, &e) || *e != want {
		t.Errorf("one word more: %+v, want %+v", err, want)
	}
}

// testMemory is a stage's, in this process.
type testMemory struct{ *stage }

func newMemory(t *testing.T) testMemory {
	t.Helper()
	file, err := memoryFile()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(file)
	if err := unix.Ftruncate(file, sharedSize); err != nil {
		t.Fatal(err)
	}
	if errno := makeMemory(uintptr(file)); errno != 0 {
		t.Fatalf("makeMemory: %v", errno)
	}
	t.Cleanup(func() { _, _ = call(unix.SYS_MUNMAP, stageAddress, stageMemory, 0, 0) })
	return testMemory{memory()}
}

// load does what receive does with an order.
func (m testMemory) load(b []byte) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&m.order)), len(b)), b)
}

// The names are the contract's "step" values: lookup is part of exec there.
func TestStepNames(t *testing.T) {
	want := map[Step]string{
		StepStage: "stage", StepChdir: "chdir", StepLookup: "exec", StepFD: "keep-fd", StepNet: "net", StepClone: "clone",
		StepJoin: "join", StepAffinity: "cpuset", StepRlimit: "rlimit", StepUser: "user", StepNoNewPrivs: "no-new-privs",
		StepPdeathsig: "pdeathsig", StepExec: "exec", StepExec + 1: "unknown",
	}
	for step, name := range want {
		if got := step.String(); got != name {
			t.Errorf("Step(%d).String() = %q, want %q", step, got, name)
		}
	}
}
