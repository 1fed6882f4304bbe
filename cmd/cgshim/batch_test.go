package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cgshim/cgshim/cmd/cgshim/internal/deliver"
	"github.com/cgshim/cgshim/shim"
)

// The whole of it, as what was compiled here: with -race.
func TestBatch(t *testing.T) {
	cmd := command(t, "batch", "--jobs", "3", "--parent", newParent(t), "--events")
	var in, out bytes.Buffer
	const runs = 60
	for i := range runs {
		fmt.Fprintf(&in, `{"id":%d,"argv":["/bin/sh","-c","exit %d"],"mem":"64M"}`+"\n", i, i)
		fmt.Fprintf(&in, `{"id":"slow %d","argv":["sleep","1000"]}`+"\n"+`{"cancel":"slow %d"}`+"\nrubbish\n", i, i)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var r struct {
			ID       any    `json:"id"`
			Type     string `json:"type"`
			Verdict  string `json:"verdict"`
			ExitCode *int   `json:"exit_code"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if r.Type == "result" {
			verdicts[r.Verdict]++
		}
		if number, ok := r.ID.(float64); ok && r.Type == "result" && (r.ExitCode == nil || *r.ExitCode != int(number)) {
			t.Errorf("%s", line)
		}
	}
	if fmt.Sprint(verdicts) != fmt.Sprint(map[string]int{"ok": 1, "nonzero-exit": runs - 1, "cancelled": runs, "error": runs}) {
		t.Errorf("%v", verdicts)
	}
}

// Requests are started in the order in which they came. Regression: one that came while the request before it was in
// handAll's hand, and no longer in the queue, was handed to a thread that had just become free: with the rest of the
// requests waiting for two that run for long, a third was started.
func TestBatchKeepsTheOrder(t *testing.T) {
	b, answers := idleBatch(t, 1)
	ctx, unblock := context.WithCancel(context.Background())
	ended := make(chan struct{})
	blocker := shim.Job{Config: shim.Config{Args: []string{"sleep", "1000"}}, Done: func(*shim.Result) { close(ended) }}
	if err := b.pool.Go(ctx, &blocker); err != nil {
		t.Fatal(err)
	}
	b.take([]byte(`{"id":1,"argv":["true"]}`))
	first := <-b.queue // as handAll does
	unblock()
	<-ended
	time.Sleep(100 * time.Millisecond) // for the thread to be free
	b.take([]byte(`{"id":2,"argv":["true"]}`))
	b.take([]byte(`{"id":3,"argv":["true"]}`))
	b.hand(first)
	b.behind.Add(-1)
	close(b.queue)
	b.handAll()
	b.waiting.Wait()
	if got := answers(); !slices.Equal(got, []string{"1 ok", "2 ok", "3 ok"}) {
		t.Errorf("%q", got)
	}
}

// idleBatch is a batch without a reader, and what its answers are: the id and the verdict, in their order.
func idleBatch(t *testing.T, jobs int) (b *batch, answers func() []string) {
	t.Helper()
	pool, err := shim.NewPool(shim.PoolConfig{Jobs: jobs, Parent: newParent(t)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.CreateTemp(t.TempDir(), "answers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
		_ = out.Close()
	})
	b = &batch{pool: pool, stop: context.Background(), queue: make(chan *job, batchAhead), active: map[string]*job{}}
	if b.out, err = deliver.NewAnswers(int(out.Fd()), func() {}); err != nil {
		t.Fatal(err)
	}
	return b, func() (list []string) {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var r struct {
				ID      any
				Verdict string
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			list = append(list, fmt.Sprint(r.ID, " ", r.Verdict))
		}
		return list
	}
}
