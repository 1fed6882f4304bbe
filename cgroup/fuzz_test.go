package cgroup

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func FuzzParseCPUList(f *testing.F) {
	for _, seed := range []string{"0", "0-2,7", "7,0-2", "1-1", "3-1", "", ",", "0,", "-1", "+1", "0-8191", "8192", "0x1", "1--2", " 0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		numbers, err := ParseCPUList(list)
		if err != nil {
			return
		}
		if len(numbers) == 0 || numbers[0] < 0 || numbers[len(numbers)-1] > maxCPU || strings.Trim(list, "0123456789-,") != "" {
			t.Fatalf("%q is %v", list, numbers)
		}
		words := make([]string, len(numbers))
		for i, n := range numbers {
			if i > 0 && n <= numbers[i-1] {
				t.Errorf("%q is %v, not sorted and unique", list, numbers)
			}
			words[i] = strconv.Itoa(n)
		}
		if again, err := ParseCPUList(strings.Join(words, ",")); err != nil || !slices.Equal(again, numbers) {
			t.Errorf("%q is %v, and that %v, %v", list, numbers, again, err)
		}
		if err := (&Limits{CPUSetCPUs: list, CPUSetMems: list}).Validate(); err != nil {
			t.Errorf("%q is refused later: %v", list, err)
		}
	})
}
