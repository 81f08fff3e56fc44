package soft

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/token"
)

// failing is a storage whose writes fail on demand.
type failing struct {
	memory
	fail bool
}

var errDiskFull = errors.New("no space left on device")

func (f *failing) write(file []byte) error {
	if f.fail {
		return errDiskFull
	}
	return f.memory.write(file)
}

// TestWriteFails: what could not be written did not happen.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	disk := new(failing)
	d := &Device{label: "full", kdf: memoryKDF, files: disk}
	disk.fail = true
	if err := d.Create(ctx, soPIN, userPIN); !errors.Is(err, errDiskFull) {
		t.Errorf("Create: %v", err)
	}
	disk.fail = false
	tok := created(t, d)
	stored := anObject(t, tok)
	disk.fail = true
	spec := token.Spec{Type: token.AES256, Place: token.PlaceObject, ID: token.ID(randomBytes(16))}
	if got, err := tok.Generate(ctx, spec); !errors.Is(err, errDiskFull) || got.ID != (token.ID{}) {
		t.Errorf("Generate: %+v, %v", got, err)
	}
	spec.ID = stored.ID
	if _, err := tok.Generate(ctx, spec); !errors.Is(err, errDiskFull) {
		t.Errorf("Generate in place of another: %v", err)
	}
	if err := tok.Destroy(ctx, stored); !errors.Is(err, errDiskFull) {
		t.Errorf("Destroy: %v", err)
	}
	check(t, seals(tok, stored))
	disk.fail = false
	check(t, tok.Close())
	check(t, seals(openToken(t, d), stored))
}

// TestLeftover: a file that a crash left half-written is of no consequence.
func TestLeftover(t *testing.T) {
	t.Parallel()
	d, dir := quickDevice(t)
	tok := created(t, d)
	check(t, os.WriteFile(dir.path(tempName), make([]byte, 1<<16), 0o600))
	stored := anObject(t, tok)
	check(t, tok.Close())
	check(t, seals(openToken(t, d), stored))
	if _, err := os.Stat(dir.path(tempName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the leftover is still there: %v", err)
	}
}

// TestUnreachable: a directory that can't be made or read is told as it is.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	_, dir := quickDevice(t)
	check(t, os.WriteFile(string(dir), nil, 0o600)) // a file where the directory should be
	d := &Device{label: "quick", kdf: memoryKDF, files: dir}
	if err := d.Create(context.Background(), soPIN, userPIN); err == nil {
		t.Error("Create succeeded")
	}
	if _, err := d.State(context.Background()); err == nil || errors.Is(err, token.ErrAbsent) {
		t.Errorf("State: %v", err)
	}
	if _, err := d.Open(context.Background(), userPIN); err == nil || errors.Is(err, token.ErrPIN) {
		t.Errorf("Open: %v", err)
	}
}

const crashDir = "CLAVIGER_TEST_CRASH_DIR"

// TestCrashChild is the process that TestCrash kills: it makes objects and says
// the ID of each when Generate has returned.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashDir)
	if dir == "" {
		t.Skip("only TestCrash runs this")
	}
	tok := openToken(t, &Device{label: "quick", kdf: memoryKDF, files: directory(dir)})
	for {
		fmt.Printf("id %x\n", anObject(t, tok).ID)
	}
}

// TestCrash: after kill -9, what was acknowledged is there, and meanwhile no
// other process could open the token.
func TestCrash(t *testing.T) {
	t.Parallel()
	d, dir := quickDevice(t)
	check(t, created(t, d).Close())
	acknowledged := make(map[token.ID]bool)
	for round := range 4 {
		for _, id := range killedAfter(t, d, dir, 5+7*round) {
			acknowledged[id] = true
		}
		tok := openToken(t, d)
		for id := range acknowledged {
			check(t, seals(tok, token.Stored{Type: token.AES256, Place: token.PlaceObject, ID: id}))
		}
		if extra := len(tok.contents.objects) - 3 - len(acknowledged); extra < 0 || extra > round+1 {
			t.Errorf("%d objects were acknowledged, %d are there", len(acknowledged), len(tok.contents.objects)-3)
		}
		check(t, tok.Close())
	}
}

// killedAfter runs the child until it has said n IDs, kills it, and returns all
// that it said.
func killedAfter(t *testing.T, d *Device, dir directory, n int) (ids []token.ID) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), crashDir+"="+string(dir))
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text, ok := strings.CutPrefix(lines.Text(), "id ")
		if !ok {
			continue
		}
		id, err := hex.DecodeString(text)
		check(t, err)
		ids = append(ids, token.ID(id))
		if len(ids) == n {
			if _, err := d.Open(context.Background(), userPIN); !errors.Is(err, errInUse) {
				t.Errorf("Open while another process has the token: %v", err)
			}
			check(t, cmd.Process.Kill())
		}
	}
	if cmd.Wait() == nil || len(ids) < n {
		t.Fatalf("the child ended by itself after %d objects", len(ids))
	}
	return ids
}
