package shim

import (
	"slices"
	"strings"
	"testing"
)

func TestUserEnvironment(t *testing.T) {
	t.Setenv("HOME", "/callers")
	t.Setenv("USER", "caller")
	for name, test := range map[string]struct {
		cfg  Config
		want []string
	}{
		"caller":         {Config{}, []string{"HOME=/callers", "USER=caller"}},
		"user":           {Config{User: &User{UID: 7, Name: "seven", Home: "/home/7"}}, []string{"HOME=/home/7", "USER=seven", "LOGNAME=seven"}},
		"without a name": {Config{User: &User{UID: 7}}, []string{"HOME=/", "USER=7", "LOGNAME=7"}},
		"kept":           {Config{User: &User{UID: 7}, KeepEnv: true}, []string{"HOME=/callers", "USER=caller"}},
		"given":          {Config{User: &User{UID: 7}, Env: []string{"HOME=/x"}}, []string{"HOME=/x"}},
		"empty":          {Config{User: &User{UID: 7}, Env: []string{}}, nil},
	} {
		got := slices.DeleteFunc(test.cfg.environment(), func(kv string) bool {
			key, _, _ := strings.Cut(kv, "=")
			return key == "LOGNAME" && name == "caller" || key == "LOGNAME" && name == "kept" || !slices.Contains([]string{"HOME", "USER", "LOGNAME"}, key)
		})
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
