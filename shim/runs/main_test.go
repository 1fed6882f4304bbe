package runs

import (
	"os"
	"testing"

	"github.com/cgshim/cgshim/internal/plain"
)

func TestMain(m *testing.M) {
	plain.Exec()
	os.Exit(m.Run())
}
