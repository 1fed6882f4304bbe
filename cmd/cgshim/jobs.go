package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/flags"
	"github.com/cgshim/cgshim/cmd/cgshim/internal/request"
	"github.com/cgshim/cgshim/shim"
)

// batchAhead is how many requests are read before there is room for them, because a request that cancels another one is only
// seen when it is read.
const batchAhead = 4096

// A batch reads requests, has the pool run them, and answers each with a result that has its ID.
//
// One goroutine reads the requests (readAll, take). It gives a request to the pool at once if the pool has room and no earlier
// request waits; else another goroutine does that later, in order (handAll). Whoever claims a job has it answered: the pool's
// thread, or, if the job is not to be started, the goroutine that has claimed it.
type batch struct {
	pool   *shim.Pool
	out    *deliver.Answers
	events bool
	taken  deliver.Channels // the requests and the answers
	quiet  bool             // standard error is the null device

	stop    context.Context // its end is the end of everything
	queue   chan *job
	behind  atomic.Int64   // how many jobs are in the queue, or taken from it and not handed on yet: later ones wait for them
	waiting sync.WaitGroup // for the answers
	mu      sync.Mutex
	active  map[string]*job // the jobs that have not been answered, by ID
	over    bool            // no job is taken any more, because the pool may be closed
}

// A job is a request until it is answered.
type job struct {
	request.Request
	ctx     context.Context
	cancel  context.CancelFunc
	pending sync.WaitGroup // for events that are not written yet
	claimed bool           // batch.mu guards it
}

// readAll reads requests to the end.
func (b *batch) readAll(from io.Reader) error {
	lines := bufio.NewReaderSize(from, 64<<10)
	for b.stop.Err() == nil {
		line, err := request.ReadLine(lines)
		switch {
		case errors.Is(err, request.ErrTooLong):
			b.refuse(request.Request{ID: request.None}, err)
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

// take does what a line says.
func (b *batch) take(line []byte) {
	r, err := request.Parse(line)
	switch {
	case err != nil:
		b.refuse(r, err)
		return
	case r.Cancels != "":
		b.cancel(r.Cancels)
		return
	}
	j := &job{Request: r}
	if b.events {
		j.Config.OnEvent = func(e shim.Event) { b.out.Event(request.Tag(j.ID, e.JSON()), &j.pending) }
	}
	if !b.activate(j) {
		return
	}
	// To look whether the queue is empty would not be enough: the job that was the last in it may have been taken out, and
	// still wait for the pool.
	if b.behind.Load() == 0 && b.pool.TryGo(j.ctx, b.poolJob(j)) {
		b.claim(j)
		return
	}
	b.behind.Add(1)
	select {
	case b.queue <- j:
	case <-b.stop.Done():
		b.answerUnstarted(j)
	}
}

// activate makes the job one to be answered. It reports false if that can't be.
func (b *batch) activate(j *job) bool {
	j.ctx, j.cancel = context.WithCancel(b.stop)
	b.mu.Lock()
	again, over := j.ID != request.None && b.active[j.ID] != nil, b.over
	if !again && !over {
		if j.ID != request.None {
			b.active[j.ID] = j
		}
		b.waiting.Add(1)
	}
	b.mu.Unlock()
	switch {
	case again:
		j.cancel()
		b.refuse(j.Request, fmt.Errorf("id %s: the request before of that id has not been answered", j.ID))
	case over: // as if the line had not been read
		j.cancel()
	}
	return !again && !over
}

// cancel cancels the job of an ID, unless that has been answered.
func (b *batch) cancel(id string) {
	b.mu.Lock()
	j := b.active[id]
	b.mu.Unlock()
	if j != nil {
		j.cancel()
		b.answerUnstarted(j)
	}
}

// claim reports whether the caller is the first to claim the job. Only the first may have it answered.
func (b *batch) claim(j *job) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	first := !j.claimed
	j.claimed = true
	return first
}

// handAll hands the queued jobs on, until there are no more. If cgshim is told to stop, it answers them instead.
func (b *batch) handAll() {
	for {
		select {
		case j, open := <-b.queue:
			if !open {
				return
			}
			b.hand(j)
			b.behind.Add(-1)
		case <-b.stop.Done():
			b.handNone()
			return
		}
	}
}

// hand gives a job to the pool, and waits until the pool has room.
func (b *batch) hand(j *job) {
	if !b.claim(j) {
		return
	}
	err := j.ctx.Err()
	if err == nil {
		err = b.pool.Go(j.ctx, b.poolJob(j))
	}
	if err != nil {
		b.answer(j, shim.Unstarted(&j.Config))
	}
}

// handNone answers the jobs that are queued, or are about to be, until every job that was taken has been answered.
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
		case j, open := <-b.queue:
			if !open {
				return
			}
			b.answerUnstarted(j)
		case <-answered:
			return
		}
	}
}

// poolJob makes the pool's form of a job.
func (b *batch) poolJob(j *job) *shim.Job {
	return &shim.Job{
		Config:  j.Config,
		Prepare: func(cfg *shim.Config) error { return b.open(j, cfg) },
		Done: func(result *shim.Result) {
			deliver.Close(&j.Config)
			b.answer(j, result)
		},
	}
}

func (b *batch) answer(j *job, result *shim.Result) {
	defer b.waiting.Done()
	j.cancel()
	b.mu.Lock()
	delete(b.active, j.ID)
	b.mu.Unlock()
	j.pending.Wait()
	b.out.Write(request.Tag(j.ID, result.JSON(false)))
}

// answerUnstarted answers a job that will not be started, unless it is claimed.
func (b *batch) answerUnstarted(j *job) {
	if b.claim(j) {
		b.answer(j, shim.Unstarted(&j.Config))
	}
}

// refuse answers a request that is wrong.
func (b *batch) refuse(r request.Request, err error) {
	b.out.Write(request.Tag(r.ID, shim.UsageError(&r.Config, err).JSON(false)))
}

// open opens the job's files. If it names none, standard input and output are /dev/null, because those of the batch are for its
// requests and answers; and so is standard error, if the batch's is. It does not wait for the other end of a FIFO, because a slot would
// be lost meanwhile.
func (b *batch) open(j *job, cfg *shim.Config) error {
	// If the batch is told to stop, the running jobs may end before the waiting ones learn of it.
	if err := b.stop.Err(); err != nil {
		return err
	}
	null, err := openNull()
	if err != nil {
		return err
	}
	j.Config.Stdin, j.Config.Stdout = null, null
	if b.quiet {
		j.Config.Stderr = null
	}
	o := &deliver.Opener{Flag: flags.Read(j.Flags), Wall: cfg.WallTime, Ctx: j.ctx, Taken: b.taken}
	if o.Needed() {
		err := o.Open(&j.Config)
		if errors.Is(err, context.Canceled) || errors.Is(err, unix.ETIMEDOUT) {
			return err
		}
		if null != j.Config.Stdin && null != j.Config.Stdout && null != j.Config.Stderr {
			_ = null.Close()
		}
		if err != nil {
			return err
		}
	} else if err := b.taken.CheckKept(cfg.KeepFDs); err != nil {
		return err
	}
	deliver.TakeFiles(cfg, &j.Config)
	cfg.ResultFDs = []int{1} // the answers
	return nil
}

// openNull opens /dev/null for one job. The next job gets another open file, because O_NONBLOCK and locks belong to an open file, and
// the job may be another user's.
func openNull() (*os.File, error) {
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	return os.NewFile(uintptr(fd), os.DevNull), nil
}

// isNull reports whether a descriptor is the null device. Then each job gets one of its own instead.
func isNull(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
}
