package shim

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/cgshim/cgshim/shim/internal/jsonline"
)

// What encoding/json has to find out about a type before it writes the first value takes as long as a twentieth of a run. So
// results are written by hand, byte for byte as encoding/json writes them: TestJSONByHand and tests/validate hold the two
// against each other.

// A jsonWriter appends JSON.
type jsonWriter struct{ b []byte }

// encode is JSON of whatever length.
func (r *Result) encode(pretty bool) []byte {
	w := jsonWriter{make([]byte, 0, 4096)}
	r.exact().write(&w)
	if pretty {
		var b bytes.Buffer
		if err := json.Indent(&b, w.b, "", "  "); err != nil {
			panic(err) // it is JSON
		}
		w.b = b.Bytes()
	}
	return append(w.b, '\n')
}

// write appends the result, as an object.
func (r *Result) write(w *jsonWriter) {
	w.b = append(w.b, '{')
	w.string("type", r.Type)
	w.int("schema_version", r.SchemaVersion)
	w.string("verdict", string(r.Verdict))
	w.intOrNull("exit_code", r.ExitCode)
	w.intOrNull("signal", r.Signal)
	w.stringOrNull("signal_name", r.SignalName)
	w.boolOrNull("core_dumped", r.CoreDumped)
	w.uintOrNull("peak_memory_bytes", r.PeakMemoryBytes)
	w.secondsOrNull("cpu_seconds", r.CPUSeconds)
	w.secondsOrNull("cpu_user_seconds", r.CPUUserSeconds)
	w.secondsOrNull("cpu_system_seconds", r.CPUSystemSeconds)
	w.secondsOrNull("wall_seconds", r.WallSeconds)
	w.uintOrNull("oom_kills", r.OOMKills)
	w.uintOrNull("pids_peak", r.PIDsPeak)
	w.uintOrNull("pids_denied", r.PIDsDenied)
	w.list("limits_hit", r.LimitsHit)
	w.uintOrNull("peak_swap_bytes", r.PeakSwapBytes)
	w.secondsOrNull("cpu_throttled_seconds", r.CPUThrottledSeconds)
	w.uintOrNull("io_read_bytes", r.IOReadBytes)
	w.uintOrNull("io_write_bytes", r.IOWriteBytes)
	w.uintOrNull("memory_anon_bytes", r.MemoryAnonBytes)
	w.uintOrNull("memory_file_bytes", r.MemoryFileBytes)
	w.uintOrNull("memory_kernel_bytes", r.MemoryKernelBytes)
	w.uintOrNull("voluntary_context_switches", r.VoluntarySwitches)
	w.uintOrNull("involuntary_context_switches", r.InvoluntarySwitches)
	w.secondsOrNull("pressure_cpu_some_seconds", r.CPUSomePressure)
	w.secondsOrNull("pressure_cpu_full_seconds", r.CPUFullPressure)
	w.secondsOrNull("pressure_memory_some_seconds", r.MemorySomePressure)
	w.secondsOrNull("pressure_memory_full_seconds", r.MemoryFullPressure)
	w.secondsOrNull("pressure_io_some_seconds", r.IOSomePressure)
	w.secondsOrNull("pressure_io_full_seconds", r.IOFullPressure)
	w.uintOrNull("output_bytes", r.OutputBytes)
	w.uintOrNull("leftover_killed", r.LeftoverKilled)
	w.secondsOrNull("setup_seconds", r.SetupSeconds)
	w.secondsOrNull("teardown_seconds", r.TeardownSeconds)
	w.table("sources", r.Sources)
	w.table("enforced", r.Enforced)
	w.key("limits")
	r.Limits.write(w)
	w.intOrNull("cgroup_version", r.CgroupVersion)
	w.stringOrNull("cgroup", r.Cgroup)
	if r.CgroupBase64 != "" {
		w.string("cgroup_base64", r.CgroupBase64)
	}
	w.intOrNull("pid", r.PID)
	w.list("argv", r.Argv)
	if len(r.ArgvBase64) > 0 {
		w.list("argv_base64", r.ArgvBase64)
	}
	w.boolOrNull("argv_truncated", &r.ArgvTruncated)
	w.stringOrNull("started_at", r.StartedAt)
	if r.Error == nil {
		w.null("error")
	} else {
		w.any("error", r.Error)
	}
	w.list("warnings", r.Warnings)
	w.end('}')
}

// write appends the limits, without those that are zero.
func (l *RequestedLimits) write(w *jsonWriter) {
	w.b = append(w.b, '{')
	positive := func(key string, n uint64) {
		if n != 0 {
			w.key(key)
			w.b = strconv.AppendUint(w.b, n, 10)
		}
	}
	text := func(key, s string) {
		if s != "" {
			w.string(key, s)
		}
	}
	duration := func(key string, s Seconds) {
		if s != 0 {
			w.secondsOrNull(key, &s)
		}
	}
	rest := func(key string, length int, v any) {
		if length > 0 {
			w.any(key, v)
		}
	}
	w.intUnlessZero("mem_bytes", l.MemBytes)
	w.intUnlessZero("swap_bytes", l.SwapBytes)
	w.intUnlessZero("mem_high_bytes", l.MemHighBytes)
	w.intUnlessZero("pids", l.PIDs)
	if l.CPUs != 0 {
		w.any("cpus", l.CPUs)
	}
	positive("cpu_weight", l.CPUWeight)
	positive("cpu_shares", l.CPUShares)
	text("cpuset_cpus", l.CPUSetCPUs)
	text("cpuset_mems", l.CPUSetMems)
	duration("cpu_time_seconds", l.CPUTimeSeconds)
	duration("wall_time_seconds", l.WallTimeSeconds)
	duration("grace_seconds", l.GraceSeconds)
	w.intUnlessZero("output_bytes", l.OutputBytes)
	rest("device_read_bps", len(l.DeviceReadBPS), l.DeviceReadBPS)
	rest("device_write_bps", len(l.DeviceWriteBPS), l.DeviceWriteBPS)
	rest("device_read_iops", len(l.DeviceReadIOPS), l.DeviceReadIOPS)
	rest("device_write_iops", len(l.DeviceWriteIOPS), l.DeviceWriteIOPS)
	rest("ulimits", len(l.Ulimits), l.Ulimits)
	text("net", l.Net)
	text("shield", l.Shield)
	rest("fs_ro", len(l.FSRo), l.FSRo)
	rest("fs_rw", len(l.FSRw), l.FSRw)
	if l.FSSystem {
		w.any("fs_system", true)
	}
	w.end('}')
}

// key appends a member's name, after a comma unless it is the first.
func (w *jsonWriter) key(name string) {
	if last := w.b[len(w.b)-1]; last != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

func (w *jsonWriter) end(bracket byte) { w.b = append(w.b, bracket) }

func (w *jsonWriter) null(key string) {
	w.key(key)
	w.b = append(w.b, "null"...)
}

func (w *jsonWriter) int(key string, n int) {
	w.key(key)
	w.b = strconv.AppendInt(w.b, int64(n), 10)
}

func (w *jsonWriter) intUnlessZero(key string, n int64) {
	if n != 0 {
		w.key(key)
		w.b = strconv.AppendInt(w.b, n, 10)
	}
}

func (w *jsonWriter) intOrNull(key string, n *int) {
	if n == nil {
		w.null(key)
		return
	}
	w.int(key, *n)
}

func (w *jsonWriter) uintOrNull(key string, n *uint64) {
	if n == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.b = strconv.AppendUint(w.b, *n, 10)
}

func (w *jsonWriter) secondsOrNull(key string, s *Seconds) {
	if s == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.b = s.append(w.b)
}

func (w *jsonWriter) boolOrNull(key string, v *bool) {
	if v == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.b = strconv.AppendBool(w.b, *v)
}

func (w *jsonWriter) string(key, s string) {
	w.key(key)
	w.quote(s)
}

func (w *jsonWriter) stringOrNull(key string, s *string) {
	if s == nil {
		w.null(key)
		return
	}
	w.string(key, *s)
}

func (w *jsonWriter) list(key string, list []string) {
	if list == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.b = append(w.b, '[')
	for i, s := range list {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.quote(s)
	}
	w.end(']')
}

// table is an object of strings, sorted by their keys.
func (w *jsonWriter) table(key string, values map[string]string) {
	if values == nil {
		w.null(key)
		return
	}
	w.key(key)
	w.b = append(w.b, '{')
	for i, name := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			w.b = append(w.b, ',')
		}
		w.quote(name)
		w.b = append(w.b, ':')
		w.quote(values[name])
	}
	w.end('}')
}

// any is for what few results have.
func (w *jsonWriter) any(key string, v any) {
	w.key(key)
	b := jsonline.Encode(v, false)
	w.b = append(w.b, b[:len(b)-1]...)
}

// quote appends a string as encoding/json does without SetEscapeHTML.
func (w *jsonWriter) quote(s string) {
	w.b = append(w.b, '"')
	begin := 0 // of what needs no escape
	for i := 0; i < len(s); {
		c, size := rune(s[i]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRuneInString(s[i:])
		}
		escape := escaped(c, size)
		if escape != "" {
			w.b = append(append(w.b, s[begin:i]...), escape...)
			begin = i + size
		}
		i += size
	}
	w.b = append(append(w.b, s[begin:]...), '"')
}

// escaped is how a character, of so many bytes, is written; "" is as it is.
func escaped(c rune, size int) string {
	const hex = "0123456789abcdef"
	switch {
	case c == '"' || c == '\\':
		return "\\" + string(c)
	case c >= ' ' && c < utf8.RuneError && c != '\u2028' && c != '\u2029', c == utf8.RuneError && size > 1, c > utf8.RuneError:
		return ""
	case c == '\b':
		return `\b`
	case c == '\f':
		return `\f`
	case c == '\n':
		return `\n`
	case c == '\r':
		return `\r`
	case c == '\t':
		return `\t`
	}
	return `\u` + string([]byte{hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15]})
}

// append writes a number of seconds with six digits and no exponent. Of what JSON has no word for there is none.
func (s Seconds) append(b []byte) []byte {
	if f := float64(s); !math.IsNaN(f) && !math.IsInf(f, 0) {
		return strconv.AppendFloat(b, f, 'f', 6, 64)
	}
	return append(b, "null"...)
}

// exact is the result with the bytes of strings that are no UTF-8.
func (r *Result) exact() *Result {
	group, odd := inexact(r.Cgroup), slices.ContainsFunc(r.Argv, func(arg string) bool { return !utf8.ValidString(arg) })
	if group == "" && !odd {
		return r
	}
	exact := *r
	exact.CgroupBase64 = group
	if odd {
		exact.ArgvBase64 = make([]string, len(r.Argv))
		for i, arg := range r.Argv {
			exact.ArgvBase64[i] = base64.StdEncoding.EncodeToString([]byte(arg))
		}
	}
	return &exact
}

// inexact is the base64 of a string that is no UTF-8; else it is empty.
func inexact(s *string) string {
	if s == nil || utf8.ValidString(*s) {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(*s))
}
