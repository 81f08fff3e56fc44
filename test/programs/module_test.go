package programs

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var built struct {
	once sync.Once
	path string
	err  error
}

// module builds libclaviger-pkcs11.so by its Makefile, once a run, and returns
// its path.
func module(t testing.TB) string {
	t.Helper()
	make := need(t, "make", "make")
	built.once.Do(func() {
		dir := filepath.Join(scratch, "module")
		built.path = filepath.Join(dir, "libclaviger-pkcs11.so")
		if out, err := exec.Command(make, "-s", "-C", "../../pkcs11", "OUT="+dir, built.path).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("building the module: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}
