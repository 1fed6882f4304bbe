package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/shim"
)

const (
	// batchAhead is how many requests are read before there is room for them: a request that cancels another is only seen
	// when it is read.
	batchAhead = 4096
	// slotDescriptors is how many a job takes at least; with more the pool is quicker.
	slotDescriptors = 24
	// slotTasks is how many threads and processes it takes: its thread, its stage, who makes groups ahead, the program.
	slotTasks = 4
	// maxRequest is the longest line: the kernel takes no more than 6 MiB of arguments and environment.
	maxRequest = 16 << 20
)

// batchFlags are what goes for all requests.
var batchFlags = []string{"jobs", "pin", "events", "parent", "manager", "nest"}

// A batch is "cgshim batch": it reads requests, one JSON object a line, and answers each with a result that bears its id.
type batch struct {
	pool   *shim.Pool
	out    *answers
	events bool
	taken  channels // the requests and the answers
	quiet  bool     // standard error is the null device

	stop    context.Context // the end of everything
	queue   chan *request
	behind  atomic.Int64   // requests in the queue, or taken from it and not handed on yet: later ones wait for them
	waiting sync.WaitGroup // for the answers
	mu      sync.Mutex
	active  map[string]*request // by id, those that have not been answered
	over    bool                // no request is taken any more: the pool may be closed
}

// A request is one line.
type request struct {
	id     string // JSON; "null" is none
	cfg    shim.Config
	files  givenFlags // for an opener
	ctx    context.Context
	cancel context.CancelFunc
	told   sync.WaitGroup // events that are not written yet
	handed bool           // to the pool, or answered without; batch.mu is for it
}

// runBatch is "cgshim batch [--jobs N] [--pin] …".
func runBatch(args []string) int {
	c, err := parseControl("batch", args, batchFlags...)
	if err == nil && len(c.names) > 0 {
		err = fmt.Errorf("batch %q: requests come on standard input", c.names[0])
	}
	if err != nil {
		return complainOf(err)
	}
	if err := checkWritable(1); err != nil {
		return complainOf(fmt.Errorf("batch: standard output: %w", err))
	}
	jobs := c.jobs
	if jobs == 0 {
		jobs = runtime.NumCPU()
	}
	if err := checkRoom(leastDescriptors+uint64(jobs)*slotDescriptors, leastTasks+uint64(jobs)*slotTasks); err != nil {
		return complainOf(fmt.Errorf("batch: %w", err))
	}
	cfg := shim.PoolConfig{Jobs: c.jobs, Pin: c.pin, Manager: c.manager, Nest: c.nest, Childless: true}
	if len(c.parents) > 0 {
		cfg.Parent = c.parents[0]
	}
	stop, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(signals, sig)
		}
	}
	pool, err := shim.NewPool(cfg)
	if err != nil {
		e := shim.Explain(err)
		e.Message = "batch: " + e.Message
		complain(e)
		return shim.ExitFailed
	}
	taken := channels{}.add(0, "the batch's standard input, its requests").add(1, "the batch's standard output, its answers")
	if err := taken.checkFD(2); err != nil {
		return complainOf(errors.Join(fmt.Errorf("batch: standard error, which jobs have that do not name another: %w", err), pool.Close()))
	}
	b := &batch{pool: pool, events: c.events, taken: taken, quiet: isNull(2), stop: stop, queue: make(chan *request, batchAhead), active: map[string]*request{}}
	end := func() {
		pool.Stop() // from here on nothing is started
		cancel()
	}
	if b.out, err = newAnswers(1, end); err != nil {
		return complainOf(fmt.Errorf("batch: %w", err))
	}
	context.AfterFunc(stop, b.out.hurry)
	status := b.serve(signals, end)
	if err := pool.Close(); err != nil {
		return complainOf(fmt.Errorf("batch: %w", err))
	}
	if err := b.out.err(); err != nil {
		return complainOf(fmt.Errorf("batch: writing a result: %w", err))
	}
	return status
}

// serve answers requests until there are no more, or it is told to stop.
func (b *batch) serve(signals <-chan os.Signal, end func()) (status int) {
	read, finished := make(chan error, 1), make(chan struct{})
	go func() { read <- b.readAll(os.Stdin) }()
	go func() {
		defer close(finished)
		b.handAll()
		b.waiting.Wait()
	}()
	for {
		select {
		case <-finished:
			return status
		case err := <-read:
			close(b.queue)
			if err != nil {
				status = complainOf(fmt.Errorf("batch: reading requests: %w", err))
			}
		case sig := <-signals:
			status = signalStatus + int(sig.(unix.Signal))
			end() // who reads may be blocked in that, and goes with this process
		}
	}
}

// signalStatus plus a signal is what a shell says of a process that it has ended.
const signalStatus = 128

// handAll hands the requests on, until there are no more; or answers those that there are, when it is told to stop.
func (b *batch) handAll() {
	for {
		select {
		case r, open := <-b.queue:
			if !open {
				return
			}
			b.hand(r)
			b.behind.Add(-1)
		case <-b.stop.Done():
			b.handNone()
			return
		}
	}
}

// handNone answers what is queued, also what is about to be, until every request that was taken has been answered.
func (b *batch) handNone() {
	b.mu.Lock()
	b.over = true
	b.mu.Unlock()
	answered := make(chan struct{})
	go func() {
		b.waiting.Wait()
		close(answered)
	}()
	for {
		select {
		case r, open := <-b.queue:
			if !open {
				return
			}
			if b.claim(r) {
				b.answer(r, shim.Unstarted(&r.cfg))
			}
		case <-answered:
			return
		}
	}
}

// readAll reads requests to the end.
func (b *batch) readAll(from io.Reader) error {
	lines := bufio.NewReaderSize(from, 64<<10)
	for b.stop.Err() == nil {
		line, err := readLine(lines)
		switch {
		case errors.Is(err, errTooLong):
			b.refuse("null", shim.Config{}, err)
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case len(strings.TrimSpace(string(line))) > 0:
			b.take(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
	return nil
}

var errTooLong = fmt.Errorf("the line is longer than %d bytes", maxRequest)

// readLine reads a line. One that is too long is read over.
func readLine(from *bufio.Reader) (line []byte, err error) {
	tooLong := false
	for {
		part, err := from.ReadSlice('\n')
		if len(line)+len(part) > maxRequest {
			tooLong, line = true, nil
		}
		if !tooLong {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if tooLong && (err == nil || errors.Is(err, io.EOF)) {
			return nil, errors.Join(errTooLong, err)
		}
		return line, err
	}
}

// take does what a line says.
func (b *batch) take(line []byte) {
	r, cancels, err := parseRequest(line)
	switch {
	case err != nil:
		b.refuse(r.id, r.cfg, err)
		return
	case cancels != "":
		b.mu.Lock()
		other := b.active[cancels]
		b.mu.Unlock()
		if other == nil {
			return // it has been answered already
		}
		other.cancel()
		if b.claim(other) {
			b.answer(other, shim.Unstarted(&other.cfg))
		}
		return
	}
	r.ctx, r.cancel = context.WithCancel(b.stop)
	b.mu.Lock()
	if r.id != "null" && b.active[r.id] != nil {
		b.mu.Unlock()
		r.cancel()
		b.refuse(r.id, r.cfg, fmt.Errorf("id %s: the request before of that id has not been answered", r.id))
		return
	}
	if b.over { // it is as if it had not been read
		b.mu.Unlock()
		r.cancel()
		return
	}
	if r.id != "null" {
		b.active[r.id] = r
	}
	b.waiting.Add(1)
	b.mu.Unlock()
	if b.events {
		r.cfg.OnEvent = func(e shim.Event) { b.out.event(r, e) }
	}
	// An empty queue would not be enough: the request that was the last in it may still wait for its thread, in hand.
	if b.behind.Load() == 0 && b.pool.TryGo(r.ctx, b.job(r)) {
		b.claim(r)
		return
	}
	b.behind.Add(1)
	select {
	case b.queue <- r:
	case <-b.stop.Done():
		if b.claim(r) {
			b.answer(r, shim.Unstarted(&r.cfg))
		}
	}
}

// claim is for who will have a request answered: one only.
func (b *batch) claim(r *request) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !r.handed
	r.handed = true
	return first
}

// hand gives a request to the pool, when there is room.
func (b *batch) hand(r *request) {
	if !b.claim(r) {
		return
	}
	err := r.ctx.Err()
	if err == nil {
		err = b.pool.Go(r.ctx, b.job(r))
	}
	if err != nil {
		b.answer(r, shim.Unstarted(&r.cfg))
	}
}

func (b *batch) job(r *request) *shim.Job {
	return &shim.Job{
		Config:  r.cfg,
		Prepare: func(cfg *shim.Config) error { return b.open(r, cfg) },
		Done: func(result *shim.Result) {
			b.close(&r.cfg)
			b.answer(r, result)
		},
	}
}

func (b *batch) answer(r *request, result *shim.Result) {
	defer b.waiting.Done()
	r.cancel()
	b.mu.Lock()
	delete(b.active, r.id)
	b.mu.Unlock()
	r.told.Wait()
	b.out.write(r.id, result.JSON(false))
}

// refuse answers what is no request.
func (b *batch) refuse(id string, cfg shim.Config, err error) {
	b.out.write(id, shim.UsageError(&cfg, err).JSON(false))
}

// open opens the request's files. Without, standard input and output are /dev/null, for the coprocess's own are its
// caller's; and so is standard error, if the coprocess's is. Nobody waits for the other end of a FIFO: a slot would be lost.
func (b *batch) open(r *request, cfg *shim.Config) error {
	// What runs may have been told to stop, and have ended, before what waits has been.
	if err := b.stop.Err(); err != nil {
		return err
	}
	null, err := openNull()
	if err != nil {
		return err
	}
	r.cfg.Stdin, r.cfg.Stdout = null, null
	if b.quiet {
		r.cfg.Stderr = null
	}
	o := &opener{
		flag: func(name string) (string, bool) { return r.files.String(name), r.files.IsSet(name) },
		wall: cfg.WallTime, ctx: r.ctx, taken: b.taken,
	}
	if o.needed() {
		files := r.cfg
		err := o.do(func() error { return o.files(&files, unix.O_NONBLOCK) }, func() { b.close(&files) })
		if errors.Is(err, context.Canceled) || errors.Is(err, unix.ETIMEDOUT) {
			return err // files is still being written to, and closed in the end
		}
		r.cfg.Stdin, r.cfg.Stdout, r.cfg.Stderr = files.Stdin, files.Stdout, files.Stderr
		if null != files.Stdin && null != files.Stdout && null != files.Stderr {
			_ = null.Close()
		}
		if err != nil {
			return err
		}
	} else if err := b.taken.checkKept(cfg.KeepFDs); err != nil {
		return err
	}
	cfg.Stdin, cfg.Stdout, cfg.Stderr = r.cfg.Stdin, r.cfg.Stdout, r.cfg.Stderr
	return nil
}

// openNull opens /dev/null for one job: O_NONBLOCK and locks belong to an open file, and the next job may be somebody
// else's.
func openNull() (*os.File, error) {
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	return os.NewFile(uintptr(fd), os.DevNull), nil
}

// isNull says whether a descriptor is the null device: each job has one of its own instead.
func isNull(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}

// close closes a request's files.
func (b *batch) close(cfg *shim.Config) {
	for _, file := range []*os.File{cfg.Stdin, cfg.Stdout, cfg.Stderr} {
		if file != nil {
			_ = file.Close() // the second time, if two are the same, is an error
		}
	}
}

// notOfRequests are flags that are about where the result goes.
var notOfRequests = []string{"fd", "output", "pretty", "events", "help"}

// parseRequest reads a request. With cancels it is one to cancel that of the id. On error it has the id, if it could be
// read.
func parseRequest(line []byte) (r *request, cancels string, err error) {
	r = &request{id: "null"}
	members, err := readObject(line)
	if err != nil {
		return r, "", err
	}
	id, idErr := requestID(valueOf(members, "id"))
	if err := unique(members); err != nil {
		if isUnique(members, "id") {
			r.id = id
		}
		return r, "", err
	}
	if r.id = id; idErr != nil {
		return r, "", idErr
	}
	if what := valueOf(members, "cancel"); what != nil {
		if cancels, err = requestID(what); err == nil && (len(members) > 1 || cancels == "null") {
			err = errors.New(`"cancel": want the id of a request, and nothing else`)
		}
		return r, cancels, err
	}
	args, err := texts("argv", valueOf(members, "argv"), asWritten)
	if err != nil {
		return r, "", err
	}
	r.cfg.Args = args // for the answer, if the flags are refused
	r.files = givenFlags{}
	for _, m := range members {
		if m.key == "id" || m.key == "argv" || m.isNull() {
			continue
		}
		if err := r.files.set(m.key, m.value); err != nil {
			return r, "", err
		}
	}
	r.cfg, err = newConfig(r.files, args)
	return r, "", err
}

// unique refuses two keys of one name, and two names of one flag: nobody could say which one was meant.
func unique(members []member) error {
	first := map[string]string{}
	for _, m := range members {
		name := m.key
		if flag, ok := requestFlag(m.key); ok {
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

// requestID is an id as JSON: a string or a number. Of equal strings it is the same, however they are escaped.
func requestID(value json.RawMessage) (string, error) {
	switch kind := kindOf(value); {
	case kind == kindNone, kind == kindNull:
		return "null", nil
	case kind == kindNumber:
		return string(value), nil
	case kind == kindString:
		return canonical(value), nil
	}
	return "null", errors.New(`"id": want a string or a number`)
}

// givenFlags are the flags of a request, by their first names.
type givenFlags map[string][]string

func (f givenFlags) set(key string, value json.RawMessage) error {
	flag, ok := requestFlag(key)
	if !ok {
		return fmt.Errorf("%q: no such key; those are the flags of a run, id, argv and cancel", key)
	}
	kind := kindOf(value)
	switch {
	case kind == kindBool && !flag.isBool:
		return fmt.Errorf("%q: want a string or a number", key)
	case kind != kindBool && flag.isBool:
		return fmt.Errorf("%q: want true or false", key)
	case kind == kindBool:
		if value[0] == 't' {
			f[flag.name] = []string{"true"}
		}
		return nil
	case kind == kindArray && !flag.isList:
		return fmt.Errorf("%q: want one value", key)
	case kind != kindArray:
		value = slices.Concat(json.RawMessage("["), value, json.RawMessage("]"))
	}
	list, err := texts(key, value, flag.number)
	if err == nil && len(list) > 0 {
		f[flag.name] = list
	}
	return err
}

// texts are the strings of a JSON array, and its numbers as text.
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

// IsSet and the others are flagValues.
func (f givenFlags) IsSet(name string) bool { return len(f[name]) > 0 }

func (f givenFlags) String(name string) string {
	if len(f[name]) == 0 {
		return ""
	}
	return f[name][0]
}

// StringSlice has the values of a flag that can be given several times.
func (f givenFlags) StringSlice(name string) []string { return f[name] }

// Bool says whether a flag without a value is set.
func (f givenFlags) Bool(name string) bool { return f.IsSet(name) }

// A requestKey is what a request may have for a flag.
type requestKey struct {
	name           string
	isBool, isList bool
	number         func(json string) (text string, err error) // what a JSON number is on the command line
}

var requestKeys = sync.OnceValue(func() map[string]requestKey {
	keys := map[string]requestKey{}
	for _, flag := range flags() {
		names := flag.Names()
		if slices.Contains(notOfRequests, names[0]) {
			continue
		}
		key := requestKey{name: names[0], number: asWritten}
		switch flag := flag.(type) {
		case onFlag:
			key.isBool = true
		case listFlag:
			key.isList, key.number = true, numberOf(flag.placeholder)
		case textFlag:
			key.number = numberOf(flag.placeholder)
		}
		for _, name := range names {
			keys[name] = key
		}
	}
	return keys
})

func requestFlag(key string) (requestKey, bool) {
	flag, ok := requestKeys()[key]
	return flag, ok
}

// answers writes lines to a descriptor, from several threads. Results wait for a reader who is slow, until the batch is told
// to stop: then for no more than deliveryTimeout, and nothing is written any more. Events do not wait: while they did, nobody
// would watch the run.
type answers struct {
	to     *writer
	told   int    // an eventfd: the batch is told to stop
	broken func() // called when nobody can read any more

	mu     sync.Mutex
	failed error
	events chan answer
}

type answer struct {
	line []byte
	of   *request
}

func newAnswers(fd int, broken func()) (*answers, error) {
	told, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	a := &answers{to: newWriter(fd), told: told, broken: broken, events: make(chan answer, eventQueue)}
	go func() {
		for e := range a.events {
			a.writeLine(e.line)
			e.of.told.Done()
		}
	}()
	return a, nil
}

// hurry waits for the reader no longer than deliveryTimeout from now on.
func (a *answers) hurry() { _, _ = unix.Write(a.told, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// event queues an event, or leaves it out if too many are queued.
func (a *answers) event(r *request, e shim.Event) {
	r.told.Add(1)
	select {
	case a.events <- answer{tagged(r.id, e.JSON()), r}:
	default:
		r.told.Done()
	}
}

// tagged puts the id in front of what else an object has.
func tagged(id string, object []byte) []byte {
	return append([]byte(`{"id":`+id+","), object[1:]...)
}

func (a *answers) write(id string, object []byte) { a.writeLine(tagged(id, object)) }

func (a *answers) writeLine(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed != nil {
		return
	}
	if a.failed = a.to.write(line, a.told); a.failed != nil {
		a.broken()
	}
}

func (a *answers) err() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failed
}
