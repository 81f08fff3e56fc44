package keys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/api"
	"github.com/claviger/claviger/internal/fault"
)

func TestFindByAttributes(t *testing.T) {
	t.Parallel()
	e := newEnv(t, true)
	all := everything()
	e.finds(all, api.P11Find{}, "")
	e.p11(api.P11Create{Name: "b", Type: "ecdsa-p256", Label: "tls", ID: []byte{1}})
	e.p11(api.P11Create{Name: "a", Type: "rsa-2048", Label: "tls"})
	e.make("plain", "ecdsa-p384")
	e.makeAs(api.CreateKey{Name: "many", Type: "aes256-gcm96", Derived: true, Protection: api.ProtectionSoftware})
	e.finds(all, api.P11Find{}, "a b plain")
	e.finds(all, api.P11Find{Label: ptr("tls")}, "a b")
	e.finds(all, api.P11Find{Label: ptr("tls"), ID: []byte{1}}, "b")
	e.finds(all, api.P11Find{Label: ptr("plain")}, "plain")
	e.finds(all, api.P11Find{Label: ptr("b")}, "")
	e.finds(all, api.P11Find{Label: ptr("")}, "")
	e.finds(all, api.P11Find{Class: "certificate"}, "")
	e.finds(all, api.P11Find{Class: "key"}, "a b plain")
	k := e.found(all, api.P11Find{Label: ptr("plain")}).Keys[0]
	sum := sha256.Sum256(k.Versions[0].Public)
	if !bytes.Equal(k.Versions[0].ID, sum[:20]) || !k.Versions[0].Signs || k.Label != "" || k.Type != "ecdsa-p384" {
		t.Errorf("%+v", k)
	}
	e.finds(all, api.P11Find{ID: sum[:20]}, "plain")
	e.finds(all, api.P11Find{Object: k.KeyID}, "plain")
	e.finds(all, api.P11Find{Object: strings.Repeat("0", 32)}, "")
}

// What changes is found as it is now, whatever changed it.
func TestFindFollowsChanges(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, true)
	all := everything()
	e.p11(api.P11Create{Name: "k", Type: "ecdsa-p256", ID: []byte{7}, Deletable: true})
	first := e.found(all, api.P11Find{Label: ptr("k")})
	old := first.Keys[0].Versions[0]
	if again := e.found(all, api.P11Find{Changed: first.Change}); !again.Unchanged || again.Keys != nil {
		t.Errorf("unchanged: %+v", again)
	}
	e.rotateNow("k")
	now := e.found(all, api.P11Find{Label: ptr("k"), Changed: first.Change})
	if now.Unchanged || now.Change <= first.Change || len(now.Keys[0].Versions) != 2 {
		t.Fatalf("after a rotation: %+v", now)
	}
	// The identifier that was set goes with the newest version.
	if v := now.Keys[0].Versions; v[0].Version != 2 || !bytes.Equal(v[0].ID, []byte{7}) || bytes.Equal(v[1].ID, []byte{7}) || !bytes.Equal(v[1].Public, old.Public) {
		t.Errorf("%+v", v)
	}
	e.configure("k", api.ConfigKey{MinEncryptionVersion: ptr(2), MinDecryptionVersion: ptr(2)})
	if v := e.found(all, api.P11Find{Label: ptr("k")}).Keys[0].Versions; len(v) != 1 {
		t.Errorf("%+v", v)
	}
	e.finds(all, api.P11Find{ID: now.Keys[0].Versions[1].ID}, "")
	_, err := e.p11Settings(ctx, all, &api.P11Settings{Name: "k", Label: ptr("new"), ID: ptr([]byte{8}), Subject: ptr([]byte{0x30, 0})})
	must(t, err)
	e.finds(all, api.P11Find{Label: ptr("k")}, "")
	e.finds(all, api.P11Find{ID: []byte{7}}, "")
	e.finds(all, api.P11Find{Label: ptr("new"), ID: []byte{8}}, "k")
	_, err = e.softDelete(ctx, call(), &api.KeyName{Name: "k"})
	must(t, err)
	e.finds(all, api.P11Find{}, "")
	_, err = e.softDeleteRestore(ctx, call(), &api.KeyName{Name: "k"})
	must(t, err)
	e.finds(all, api.P11Find{}, "k")
	b, err := e.backupKey(ctx, call(), &api.KeyName{Name: "k"})
	must(t, err)
	_, err = e.restoreKey(ctx, call(), &api.Restore{Name: "copy", Backup: b.Backup})
	must(t, err)
	e.finds(all, api.P11Find{Label: ptr("new")}, "copy k")
	_, err = e.deleteKey(ctx, call(), &api.KeyName{Name: "k"})
	must(t, err)
	e.finds(all, api.P11Find{}, "copy")
	must(t, e.Unmount(ctx, "transit/"))
	e.finds(all, api.P11Find{}, "")
}

// An index that is made anew shows what the old one did, and so does one that was
// told of too many changes.
func TestFindAfterRestart(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, false)
	all := everything()
	e.p11(api.P11Create{Name: "k", Type: "ecdsa-p256", Label: "l"})
	e.make("soft", "ed25519")
	e.putObject(all, "00", attribute(attrLabel, "l"))
	before := e.found(all, api.P11Find{})
	e.restart()
	after := e.found(all, api.P11Find{})
	if names(before) != names(after) || before.Change == after.Change {
		t.Errorf("%+v\n%+v", before, after)
	}
	e.finds(all, api.P11Find{Label: ptr("l")}, "k 0000")
	for i := range maxStale + 1 {
		e.indexes.note("transit/", place{name: fmt.Sprint(i)})
	}
	_, err := e.p11Settings(ctx, all, &api.P11Settings{Name: "k", Label: ptr("")})
	must(t, err)
	e.finds(all, api.P11Find{Label: ptr("k")}, "k")
	e.Reset()
	e.finds(all, api.P11Find{Label: ptr("k")}, "k")
	e.holder.Set(nil)
	_, err = e.p11Find(ctx, all, &api.P11Find{})
	wantFault(t, err, fault.Sealed, "sealed")
}

// A caller finds what it may read or use, and nothing else, under the path that the
// mount has now.
func TestFindByPolicy(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for _, name := range []string{"a", "b", "c", "d"} {
		e.p11(api.P11Create{Name: name, Type: "ecdsa-p256", Label: "same"})
	}
	e.p11(api.P11Create{Name: "aes", Type: "aes256-gcm96"})
	e.putObject(everything(), "01", attribute(attrLabel, "same"))
	e.putObject(everything(), "02", attribute(attrLabel, "same"))
	for _, test := range []struct{ allow, want string }{
		{"read transit/keys/a", "a aes"},
		{"write transit/sign/b", "b"},
		{"write transit/pkcs11/c/agree", "c"},
		{"write transit/pkcs11/c/settings", "c"},
		{"delete transit/keys/d", "d"},
		{"read transit/pkcs11-objects/01", "0101"},
		{"write transit/pkcs11-objects/02", "0202"},
		{"list transit/keys", ""},
		{"write moved/sign/", ""},
	} {
		e.finds(judged(test.allow), api.P11Find{}, test.want)
	}
	none := call()
	e.finds(none, api.P11Find{Label: ptr("same")}, "")
	k := e.found(judged("write transit/sign/a", "write transit/pkcs11/aes/", "delete"), api.P11Find{}).Keys
	if got := fmt.Sprint(k[0].May, k[1].May); got != "[sign delete] [encrypt decrypt change delete]" {
		t.Error(got)
	}
	moved := judged("write moved/sign/")
	moved.At = "moved/"
	before := e.found(everything(), api.P11Find{})
	e.finds(moved, api.P11Find{}, "a aes b c d")
	if e.found(moved, api.P11Find{Changed: before.Change}).Unchanged {
		t.Error("a move of the mount changes nothing")
	}
	changed := everything()
	changed.Judge.(*judge).stamp = 1
	before = e.found(everything(), api.P11Find{})
	if e.found(changed, api.P11Find{Changed: before.Change}).Unchanged {
		t.Error("a change of policies changes nothing")
	}
}

func TestFindInPages(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for i := range 7 {
		e.p11(api.P11Create{Name: fmt.Sprint("k", i), Type: "ed25519", Label: "same"})
	}
	for i := range 3 {
		e.putObject(everything(), fmt.Sprint("0", i), attribute(attrLabel, "same"))
	}
	c := judged("write transit/sign/", "read transit/pkcs11-objects/")
	for _, label := range []*string{nil, ptr("same")} {
		var got []string
		r := api.P11Find{Label: label, Limit: 3}
		for {
			f := e.found(c, r)
			got = append(got, names(f))
			if r.After = f.Next; r.After == "" {
				break
			}
		}
		if all := strings.Join(got, "|"); all != "k0 k1 k2|k3 k4 k5|k6 0000 0101|0202" {
			t.Error(all)
		}
	}
	e.finds(c, api.P11Find{Class: "data"}, "0000 0101 0202")
}

func TestFindWrongInput(t *testing.T) {
	t.Parallel()
	e := newEnv(t, false)
	for text, r := range map[string]api.P11Find{
		"key, certificate or data": {Class: "secret"},
		"from 1 to 1000":           {Limit: 1001},
		"limit -1":                 {Limit: -1},
		"no next":                  {After: "k"},
	} {
		_, err := e.p11Find(context.Background(), everything(), &r)
		wantFault(t, err, fault.Invalid, text)
	}
}

// A record that was altered hides itself only.
func TestFindBesideAltered(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, false)
	e.p11(api.P11Create{Name: "good", Type: "ed25519"})
	e.p11(api.P11Create{Name: "bad", Type: "ed25519"})
	e.p11(api.P11Create{Name: "worse", Type: "ed25519"})
	for table, key := range map[string]string{tableVersions: keyName{"transit/", "bad"}.version(1), tableKeys: "transit/worse"} {
		r, err := e.db.Get(ctx, table, key)
		must(t, err)
		r.Data[len(r.Data)-1] ^= 1
		must(t, e.db.Apply(ctx, changeOf(r)))
	}
	e.restart()
	f := e.found(everything(), api.P11Find{})
	if names(f) != "bad good" || len(f.Keys[0].Versions) != 0 || len(f.Keys[1].Versions) != 1 {
		t.Errorf("%+v", f)
	}
}

// Certificates that are set are found with their key.
func TestFindCertificate(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, false)
	e.p11(api.P11Create{Name: "k", Type: "ecdsa-p256", ID: []byte{5}})
	e.finds(everything(), api.P11Find{Class: "certificate"}, "")
	read, err := e.readKey(ctx, call(), &api.ReadKey{Name: "k"})
	must(t, err)
	chain := issue(t, publicOf(t, read, "1"), "k")
	_, err = e.setCertificate(ctx, call(), &api.SetCertificate{Name: "k", CertificateChain: chain})
	must(t, err)
	for range 2 {
		f := e.found(everything(), api.P11Find{Class: "certificate", ID: []byte{5}})
		if names(f) != "k" || len(f.Keys[0].Versions[0].Certificates) != strings.Count(chain, "BEGIN") {
			t.Fatalf("%+v", f)
		}
		if !strings.Contains(strings.ReplaceAll(chain, "\n", ""), base64.StdEncoding.EncodeToString(f.Keys[0].Versions[0].Certificates[0])) {
			t.Error("another certificate")
		}
		e.restart()
	}
}

func benchmarkFind(b *testing.B, n int) {
	e := newEnv(b, false)
	e.fill(n)
	c := judged("write transit/sign/")
	label := fmt.Sprintf("k%06d", n/2)
	if got := names(e.found(c, api.P11Find{Label: &label})); got != label {
		b.Fatal(got)
	}
	b.ReportAllocs()
	for b.Loop() {
		e.found(c, api.P11Find{Label: &label})
	}
}

// The cost of a question does not depend on how many keys there are.
func BenchmarkFindAmong10(b *testing.B)     { benchmarkFind(b, 10) }
func BenchmarkFindAmong100000(b *testing.B) { benchmarkFind(b, 100_000) }

// BenchmarkFindBuild is the first question of a mount with 10^5 keys after unsealing.
func BenchmarkFindBuild(b *testing.B) {
	e := newEnv(b, false)
	e.fill(100_000)
	label := "k000001"
	for b.Loop() {
		e.indexes.reset()
		e.found(judged("write transit/sign/"), api.P11Find{Label: &label})
	}
}

// BenchmarkFindNothing is the empty question of a caller who sees none of 10^5 keys.
func BenchmarkFindNothing(b *testing.B) {
	e := newEnv(b, false)
	e.fill(100_000)
	c := judged("write elsewhere/")
	e.found(c, api.P11Find{})
	for b.Loop() {
		e.found(c, api.P11Find{})
	}
}

// Questions that are asked while keys come and go see each key that stays, and in
// the end what is there.
func TestFindWhileChanging(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := newEnv(t, false)
	e.p11(api.P11Create{Name: "stays", Type: "ed25519", Label: "l"})
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for j := range 20 {
				name := fmt.Sprintf("k%d-%d", i, j)
				_, err := e.p11Create(ctx, everything(), &api.P11Create{Name: name, Type: "ed25519", Label: "l", Deletable: true})
				if err == nil && j%2 == 0 {
					_, err = e.deleteKey(ctx, call(), &api.KeyName{Name: name})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for range 20 {
				f, err := e.p11Find(ctx, everything(), &api.P11Find{Label: ptr("l")})
				if err != nil || !strings.Contains(names(f), "stays") {
					t.Errorf("%+v, %v", f, err)
				}
			}
		})
	}
	group.Wait()
	if f := e.found(everything(), api.P11Find{Label: ptr("l")}); len(f.Keys) != 41 {
		t.Errorf("%d keys", len(f.Keys))
	}
	old := e.found(everything(), api.P11Find{})
	e.indexes.reset()
	if now := e.found(everything(), api.P11Find{}); names(now) != names(old) {
		t.Errorf("%s\n%s", names(now), names(old))
	}
}
