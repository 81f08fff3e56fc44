package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/store"
)

// placeVariable tells a child of testKill where its database is.
const placeVariable = "CLAVIGER_STORETEST_PLACE"

const killWriters = 4

// Main is the TestMain of a driver's tests: it runs them, or, in a child
// process of the kill test, writes until it is killed.
func Main(m *testing.M, b Backend) {
	place, child := os.LookupEnv(placeVariable)
	if !child {
		os.Exit(m.Run())
	}
	s, err := b.Open(place)
	if err == nil {
		err = writeUntilKilled(s)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// writeUntilKilled runs writers that each keep two records of two tables and a
// growing list in step, and print every change after it was acknowledged.
func writeUntilKilled(s store.Store) error {
	failed := make(chan error)
	for w := range killWriters {
		go func() { failed <- writeLoop(s, fmt.Sprint("w", w)) }()
	}
	return <-failed
}

func writeLoop(s store.Store, name string) error {
	ctx := context.Background()
	r, err := s.Get(ctx, "a", name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	for n := r.Version; ; n++ {
		data := fmt.Sprint(name, "=", n+1, strings.Repeat(".", int(n%97)*50))
		err := s.Apply(ctx,
			put("a", name, n, data),
			put("list", fmt.Sprintf("%s/%08d", name, n+1), 0, data),
			put("b", name, n, data))
		if err != nil {
			return err
		}
		// One write(2) per line, so that the lines of several writers stay whole.
		fmt.Printf("%s %d\n", name, n+1)
	}
}

// testKill kills a process that is writing, several times over one database:
// every acknowledged change is there, and none is there in part.
func testKill(t *testing.T, b Backend) {
	place := b.Place(t)
	for range 5 {
		acknowledged := killOnce(t, place)
		s, err := b.Open(place)
		if err != nil {
			t.Fatalf("open after kill: %v", err)
		}
		for w := range killWriters {
			name := fmt.Sprint("w", w)
			checkWriter(t, s, name, acknowledged[name])
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killOnce starts a child, kills it at a random moment, and returns the last
// acknowledged version of each writer.
func killOnce(t *testing.T, place string) map[string]int64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), placeVariable+"="+place)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := map[string]int64{}
	total := 0
	for lines := bufio.NewScanner(out); lines.Scan(); total++ {
		name, number, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil {
			acknowledged[name] = n
		}
		if total == 20 {
			time.AfterFunc(rand.N(40*time.Millisecond), func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait()
	if total < 20 {
		t.Fatalf("the child ended after %d changes", total)
	}
	return acknowledged
}

func checkWriter(t *testing.T, s store.Store, name string, acknowledged int64) {
	t.Helper()
	a, errA := s.Get(t.Context(), "a", name)
	b, errB := s.Get(t.Context(), "b", name)
	if errA != nil || errB != nil {
		if acknowledged > 0 || !errors.Is(errA, store.ErrNotFound) || !errors.Is(errB, store.ErrNotFound) {
			t.Errorf("%s: %v, %v", name, errA, errB)
		}
		return
	}
	// One change may have been under way, done but not yet acknowledged.
	if a.Version < acknowledged || a.Version > acknowledged+1 && acknowledged > 0 {
		t.Errorf("%s has version %d, %d was acknowledged", name, a.Version, acknowledged)
	}
	if a.Version != b.Version || string(a.Data) != string(b.Data) {
		t.Errorf("%s is half-made: versions %d and %d", name, a.Version, b.Version)
	}
	list, err := s.List(t.Context(), "list", name+"/", "", 0)
	if err != nil || int64(len(list)) != a.Version {
		t.Errorf("%s: %d list records, error %v, want %d", name, len(list), err, a.Version)
	}
	if !strings.HasPrefix(string(a.Data), fmt.Sprint(name, "=", a.Version)) {
		t.Errorf("%s: version %d holds %.30q", name, a.Version, a.Data)
	}
}
