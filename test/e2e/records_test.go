package e2e

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	_ "modernc.org/sqlite"

	"github.com/claviger/claviger/test/harness"
)

// openDatabase opens the database of a server that is stopped, as somebody
// would who can write the file.
func openDatabase(t *testing.T, s *harness.Server) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(s.Dir, "data", "claviger.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func record(t *testing.T, db *sql.DB, table, key string) (data []byte) {
	t.Helper()
	if err := db.QueryRow(`SELECT data FROM records WHERE tbl = ? AND key = ?`, table, []byte(key)).Scan(&data); err != nil {
		t.Fatalf("reading %s/%s: %v", table, key, err)
	}
	return data
}

func overwrite(t *testing.T, db *sql.DB, table, key string, data []byte) {
	t.Helper()
	result, err := db.Exec(`UPDATE records SET data = ? WHERE tbl = ? AND key = ?`, data, table, []byte(key))
	if err != nil {
		t.Fatalf("writing %s/%s: %v", table, key, err)
	}
	if n, err := result.RowsAffected(); n != 1 || err != nil {
		t.Fatalf("writing %s/%s: %d rows, %v", table, key, n, err)
	}
}

func swap(t *testing.T, db *sql.DB, table, a, b string) {
	t.Helper()
	dataA, dataB := record(t, db, table, a), record(t, db, table, b)
	overwrite(t, db, table, a, dataB)
	overwrite(t, db, table, b, dataA)
}

// TestSwappedRecords: who can write the database can neither put one key's
// secret into another key's place nor alter one. Such keys are refused, the
// server's log names the record, all other keys work.
func TestSwappedRecords(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	ciphertexts := map[string]any{}
	for _, key := range []string{"secret-1", "secret-2", "rules-1", "rules-2", "bit", "good"} {
		s.OK(t, "POST", "transit/keys/"+key, nil)
		ciphertexts[key] = s.OK(t, "POST", "transit/encrypt/"+key, map[string]any{"plaintext": "aGVsbG8="})["ciphertext"]
	}
	s.Stop()
	db := openDatabase(t, s)
	const first = "/0000000001"
	swap(t, db, "key_versions", "transit/secret-1"+first, "transit/secret-2"+first)
	swap(t, db, "keys", "transit/rules-1", "transit/rules-2")
	altered := record(t, db, "key_versions", "transit/bit"+first)
	altered[len(altered)/2] ^= 1
	overwrite(t, db, "key_versions", "transit/bit"+first, altered)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s.Start(t)
	s.Unseal(t, s.Shares...)
	for key, named := range map[string]string{
		"secret-1": "key_versions/transit/secret-1", "secret-2": "key_versions/transit/secret-2",
		"rules-1": "keys/transit/rules-1", "rules-2": "keys/transit/rules-2", "bit": "key_versions/transit/bit",
	} {
		for path, body := range map[string]any{
			"encrypt": map[string]any{"plaintext": "aGVsbG8="}, "decrypt": map[string]any{"ciphertext": ciphertexts[key]},
		} {
			if status, answer := s.Do(t, "POST", "transit/"+path+"/"+key, body); status != 500 {
				t.Errorf("%s with %s: status %d: %v, want 500", path, key, status, answer)
			}
		}
		if !logged(s, named, "not authentic", "was altered in the database") {
			t.Errorf("the log does not say that the record %s was altered:\n%s", named, s.Log())
		}
	}
	data := s.OK(t, "POST", "transit/decrypt/good", map[string]any{"ciphertext": ciphertexts["good"]})
	if data["plaintext"] != "aGVsbG8=" {
		t.Errorf("the key that nobody touched: another plaintext: %v", data)
	}
	s.OK(t, "POST", "transit/keys/new", nil)
	if list := s.OK(t, "LIST", "transit/keys", nil)["keys"].([]any); len(list) != 7 {
		t.Errorf("altered records hide others from the list: %v", list)
	}
}

// logged tells whether one line of the server's log has all of the texts.
func logged(s *harness.Server, texts ...string) bool {
	for line := range strings.Lines(s.Log()) {
		found := true
		for _, text := range texts {
			found = found && strings.Contains(line, text)
		}
		if found {
			return true
		}
	}
	return false
}

// TestStolenRights: who can write the database can't give the rights of the
// root token to another client token, nor the text of one policy to another.
func TestStolenRights(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	s.OK(t, "POST", "transit/keys/k", nil)
	s.OK(t, "PUT", "sys/policies/acl/narrow", map[string]any{"policy": `path "transit/encrypt/k" { capabilities = ["update"] }`})
	_, body := s.Do(t, "POST", "auth/token/create", map[string]any{"policies": []string{"narrow"}, "no_default_policy": true})
	narrow := body["auth"].(map[string]any)["client_token"].(string)
	plaintext := map[string]any{"plaintext": "aGVsbG8="}
	if status, body, err := s.Try("POST", "transit/encrypt/k", narrow, plaintext); status != 200 || err != nil {
		t.Fatalf("what the policy allows: status %d: %v, %v", status, body, err)
	}
	s.Stop()
	db := openDatabase(t, s)
	rows, err := db.Query(`SELECT key, data FROM records WHERE tbl = 'tokens'`)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string][]byte{}
	for rows.Next() {
		var key, data []byte
		if err := rows.Scan(&key, &data); err != nil {
			t.Fatal(err)
		}
		tokens[string(key)] = data
	}
	if err := rows.Err(); err != nil || len(tokens) != 2 {
		t.Fatalf("%d client tokens in the database, %v, want 2", len(tokens), err)
	}
	var ids []string
	for id := range tokens {
		ids = append(ids, id)
	}
	swap(t, db, "tokens", ids[0], ids[1])
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s.Start(t)
	s.Unseal(t, s.Shares...)
	for _, path := range []string{"transit/encrypt/k", "transit/rewrap/k", "transit/keys/k/rotate"} {
		for name, token := range map[string]string{"the narrow token": narrow, "the root token": s.RootToken} {
			if status, body, err := s.Try("POST", path, token, plaintext); status < 400 || err != nil {
				t.Errorf("%s at %s with %s's record: status %d: %v, %v", name, path, "the other", status, body, err)
			}
		}
	}
	if !logged(s, "tokens/", "not authentic") {
		t.Errorf("the log does not name the record:\n%s", s.Log())
	}
	if status, body := s.Do(t, "GET", "sys/health", nil); status != 200 {
		t.Errorf("health: status %d: %v", status, body)
	}
}

// TestReadOnlyDatabase: the database's files can't be written for a while.
// What needs them is refused, all else goes on, and so does the server afterwards.
func TestReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	s := harness.SoftHSM(t, harness.Options{})
	s.OK(t, "POST", "transit/keys/k", nil)
	encrypt := func() any {
		t.Helper()
		return s.OK(t, "POST", "transit/encrypt/k", map[string]any{"plaintext": "aGVsbG8="})["ciphertext"]
	}
	ciphertext := encrypt()
	thaw := freeze(t, filepath.Join(s.Dir, "data", "claviger.db"), filepath.Join(s.Dir, "data", "claviger.db-wal"))
	for _, c := range []struct{ method, path string }{
		{"POST", "transit/keys/new"}, {"POST", "transit/keys/k/rotate"}, {"PUT", "sys/policies/acl/p"},
		{"POST", "auth/token/create"},
	} {
		status, body := s.Do(t, c.method, c.path, map[string]any{"policy": `path "a" { capabilities = ["read"] }`})
		if status != 503 || !strings.Contains(fmt.Sprint(body["errors"]), "database") {
			t.Errorf("%s: status %d: %v, want 503 and a text that names the database", c.path, status, body)
		}
	}
	for range 20 {
		ciphertext = encrypt()
		s.OK(t, "POST", "transit/decrypt/k", map[string]any{"ciphertext": ciphertext})
		s.OK(t, "GET", "transit/keys/k", nil)
	}
	if status, body := s.Do(t, "GET", "transit/keys/new", nil); status != 404 {
		t.Errorf("a key that could not be made: status %d: %v", status, body)
	}
	thaw()
	s.OK(t, "POST", "transit/keys/new", nil)
	s.OK(t, "POST", "transit/keys/k/rotate", nil)
	s.Kill()
	s.Start(t)
	s.Unseal(t, s.Shares...)
	s.OK(t, "GET", "transit/keys/new", nil)
	if v := s.OK(t, "GET", "transit/keys/k", nil)["latest_version"]; v != 2.0 {
		t.Errorf("the newest version is %v, want 2: one rotation was acknowledged", v)
	}
	s.OK(t, "POST", "transit/decrypt/k", map[string]any{"ciphertext": ciphertext})
}

// freeze makes files immutable, for those too that have them open, and for
// root; ext4 and some others can. It skips the test where that is not so.
func freeze(t *testing.T, paths ...string) (thaw func()) {
	t.Helper()
	probe := filepath.Join(t.TempDir(), "probe")
	f, err := os.Create(probe)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := immutable(probe, true); err != nil {
		t.Skipf("files can't be made immutable here: %v", err)
	}
	_, err = f.Write([]byte("x"))
	if err := immutable(probe, false); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Skip("this file system lets an immutable file be written by who has it open")
	}
	thaw = func() {
		for _, path := range paths {
			if err := immutable(path, false); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	}
	t.Cleanup(thaw)
	for _, path := range paths {
		if err := immutable(path, true); err != nil {
			t.Fatal(err)
		}
	}
	return thaw
}

// immutable sets or clears FS_IMMUTABLE_FL (chattr +i).
func immutable(path string, on bool) error {
	const flag = 0x10
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return fmt.Errorf("%s: reading the flags: %w", path, err)
	}
	flags &^= flag
	if on {
		flags |= flag
	}
	if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(flags)); err != nil {
		return fmt.Errorf("%s: setting the flags: %w", path, err)
	}
	return nil
}
