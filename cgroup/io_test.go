package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestSetIO(t *testing.T) {
	h := testHost(t)
	g := create(t, h, testPath(t))
	// Any device will do, nothing is read from it. Not a RAM disk: on some kernels it has no queue to throttle.
	devices, _ := filepath.Glob("/sys/block/[hsvnx]*/dev")
	if len(devices) == 0 {
		t.Skip("requires a block device")
	}
	number, err := os.ReadFile(devices[0])
	if err != nil {
		t.Fatal(err)
	}
	var limit IOLimit
	if _, err := fmt.Sscanf(string(number), "%d:%d", &limit.Major, &limit.Minor); err != nil {
		t.Fatal(err)
	}
	limit.ReadBPS, limit.WriteIOPS = 1048576, 50
	set(t, g, Limits{IO: []IOLimit{limit}})
	device := limit.device()
	checkFiles(t, h, g,
		map[string]string{
			"blkio.throttle.read_bps_device": device + " 1048576", "blkio.throttle.write_iops_device": device + " 50",
			"blkio.throttle.write_bps_device": "", "blkio.throttle.read_iops_device": "",
		},
		map[string]string{"io.max": device + " rbps=1048576 wbps=max riops=max wiops=50"})
}
