package rungroup

import (
	"os"
	"testing"
)

func TestUserTasks(t *testing.T) {
	if n := UserTasks(uint32(os.Geteuid())); n < 2 {
		t.Errorf("%d tasks of this user", n)
	}
}
