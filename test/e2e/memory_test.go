package e2e

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/test/harness"
)

// TestSecretsAreNowhere is promise P1 on SoftHSM2, whose secrets the test can
// compute because it knows the PIN: no secret of a token or wrapped key, and
// none of the system keys, is in the memory of the server, in a file of it or
// in its log. The workers' processes hold SoftHSM2 itself, so they are not
// searched. That the search finds what is there, it shows with the storage key
// and the secret of a software key, which are in memory by design.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	s, pin := adopted(t)
	used := useKeys(t, s)
	v := openVault(t, s, pin)
	secrets := v.secrets(t, used)
	software := v.versions(t, "transit/software").Main.Secret
	decrypts(t, "the software key", software, used["software"])

	controls := map[string][]byte{"the storage key": v.storageKey, "the secret of the software key": software}
	found := searchMemory(t, s.PID(), needles(secrets, controls))
	for name := range secrets {
		if form, ok := found[name]; ok {
			t.Errorf("%s is in the server's memory, as %s", name, form)
		}
	}
	for name := range controls {
		if _, ok := found[name]; !ok {
			t.Errorf("%s is not found in the server's memory: the search finds nothing", name)
		}
	}
	s.Stop()
	for name, form := range searchFiles(t, s, needles(secrets, controls)) {
		t.Errorf("%s: in %s", name, form)
	}
}

// keyContext is the context of all requests; it means something to derived keys only.
const keyContext = "dGVuYW50LTc="

// use is what the test knows of a key by the API.
type use struct{ plaintext, ciphertext, public string }

// useKeys makes keys of both protections and one in software, and uses them.
func useKeys(t *testing.T, s *harness.Server) map[string]use {
	t.Helper()
	used := map[string]use{}
	for _, k := range []struct{ name, typ, protection string }{
		{"wrapped-aes", "aes256-gcm96", "wrapped"}, {"token-aes", "aes256-gcm96", "token"},
		{"wrapped-ec", "ecdsa-p256", "wrapped"}, {"token-ec", "ecdsa-p256", "token"},
		{"wrapped-derived", "aes256-gcm96", "wrapped"}, {"token-derived", "aes256-gcm96", "token"},
		{"software", "aes256-gcm96", "software"},
	} {
		made := s.OK(t, "POST", "transit/keys/"+k.name, map[string]any{
			"type": k.typ, "protection": k.protection, "derived": strings.HasSuffix(k.name, "-derived")})
		u := use{plaintext: random(48)}
		for range 50 {
			if k.typ == "aes256-gcm96" {
				u.ciphertext = s.OK(t, "POST", "transit/encrypt/"+k.name, map[string]any{"plaintext": u.plaintext, "context": keyContext})["ciphertext"].(string)
				s.OK(t, "POST", "transit/decrypt/"+k.name, map[string]any{"ciphertext": u.ciphertext, "context": keyContext})
				continue
			}
			s.OK(t, "POST", "transit/sign/"+k.name, map[string]any{"input": u.plaintext})
			u.public = made["keys"].(map[string]any)["1"].(map[string]any)["public_key"].(string)
		}
		s.OK(t, "POST", "transit/hmac/"+k.name, map[string]any{"input": u.plaintext})
		used[k.name] = u
	}
	return used
}

// vault opens what a server keeps, with the secrets of its HSM token.
type vault struct {
	objects    []object
	records    func(table, key string) (data []byte, version int64)
	storageKey []byte
	kek        []byte
}

func openVault(t *testing.T, s *harness.Server, pin string) *vault {
	t.Helper()
	db := openDatabase(t, s)
	release := holdToken(t, s) // while a worker logs in, a file is half written
	v := &vault{objects: readTokens(t, tokenDir(t, s), pin)}
	release()
	v.records = func(table, key string) (data []byte, version int64) {
		t.Helper()
		row := db.QueryRow(`SELECT data, version FROM records WHERE tbl = ? AND key = ?`, table, []byte(key))
		if err := row.Scan(&data, &version); err != nil {
			t.Fatalf("reading %s/%s: %v", table, key, err)
		}
		return data, version
	}
	v.kek = v.labelled(t, "claviger-kek")
	var seal struct {
		SetID       string    `json:"set_id"`
		ClusterID   string    `json:"cluster_id"`
		TokenLabel  string    `json:"token_label"`
		TokenSerial string    `json:"token_serial"`
		Created     time.Time `json:"created"`
		StorageKey  []byte    `json:"storage_key"`
	}
	data, _ := v.records("custody", "seal")
	if err := json.Unmarshal(data, &seal); err != nil {
		t.Fatal(err)
	}
	aad := []byte("claviger storage key 1")
	for _, text := range []string{seal.SetID, seal.ClusterID, seal.TokenLabel, seal.TokenSerial} {
		aad = append(binary.BigEndian.AppendUint64(aad, uint64(len(text))), text...)
	}
	aad = append(binary.BigEndian.AppendUint64(aad, uint64(seal.Created.Unix())), 1) // adopted
	v.storageKey = openGCM(t, v.labelled(t, "claviger-storage"), seal.StorageKey[1:], aad)
	return v
}

// holdToken keeps workers of the server from starting.
func holdToken(t *testing.T, s *harness.Server) (release func()) {
	t.Helper()
	lock, err := os.OpenFile(filepath.Join(s.Dir, "data", "token.lock"), os.O_RDWR, 0)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { lock.Close() }
}

func (v *vault) labelled(t *testing.T, label string) []byte {
	t.Helper()
	for _, o := range v.objects {
		if o.label == label && len(o.secret) >= 32 {
			return o.secret
		}
	}
	t.Fatalf("no object %s in the token", label)
	return nil
}

// versionRecord is the first version of a key as the store keeps it.
type versionRecord struct {
	Main secretRecord  `json:"main"`
	MAC  *secretRecord `json:"mac"`
}

type secretRecord struct {
	ID     string `json:"id"`
	Blob   []byte `json:"blob"`
	Secret []byte `json:"secret"`
}

func (v *vault) versions(t *testing.T, key string) (r versionRecord) {
	t.Helper()
	key += "/0000000001"
	data, version := v.records("key_versions", key)
	aad := []byte("claviger record 1")
	for _, text := range []string{"key_versions", key} {
		aad = append(binary.BigEndian.AppendUint64(aad, uint64(len(text))), text...)
	}
	plain := openGCM(t, v.storageKey, data[1:], binary.BigEndian.AppendUint64(aad, uint64(version)))
	if err := json.Unmarshal(plain, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// secrets are those of the HSM token and of the wrapped keys. That they are the
// right ones is proved by ciphertexts and public keys.
func (v *vault) secrets(t *testing.T, used map[string]use) map[string][]byte {
	t.Helper()
	secrets := map[string][]byte{}
	for _, o := range v.objects {
		secrets[fmt.Sprintf("the token object %s (%s)", o.label, o.id)] = o.secret
	}
	for _, key := range []string{"wrapped-aes", "wrapped-ec", "token-aes", "token-ec", "wrapped-derived", "token-derived"} {
		r := v.versions(t, "transit/"+key)
		secret := v.secret(t, r.Main)
		switch {
		case strings.HasSuffix(key, "-aes"):
			decrypts(t, key, secret, used[key])
		case strings.HasSuffix(key, "-derived"):
			decrypts(t, key, expand(t, secret), used[key])
		default:
			secret = scalar(t, key, secret, used[key].public)
		}
		secrets["the secret of "+key] = secret
		if r.MAC == nil {
			t.Errorf("%s has no key for HMAC", key)
			continue
		}
		secrets["the HMAC secret of "+key] = v.secret(t, *r.MAC)
	}
	for name, secret := range secrets {
		if len(secret) < 32 {
			t.Fatalf("%s has %d bytes", name, len(secret))
		}
	}
	return secrets
}

func (v *vault) secret(t *testing.T, r secretRecord) []byte {
	t.Helper()
	if len(r.Blob) > 0 {
		secret, err := unwrapKWP(v.kek, r.Blob)
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	for _, o := range v.objects {
		if o.id == r.ID && len(o.secret) > 0 {
			return o.secret
		}
	}
	t.Fatalf("no object %s in the token", r.ID)
	return nil
}

func openGCM(t *testing.T, key, sealed, aad []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, sealed[:12], sealed[12:], aad)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

func decrypts(t *testing.T, name string, secret []byte, u use) {
	t.Helper()
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(u.ciphertext, "vault:v1:"))
	if err != nil {
		t.Fatal(err)
	}
	if base64.StdEncoding.EncodeToString(openGCM(t, secret, sealed, nil)) != u.plaintext {
		t.Errorf("%s: its ciphertext has another plaintext", name)
	}
}

// expand derives the AES key of keyContext.
func expand(t *testing.T, secret []byte) []byte {
	t.Helper()
	info, err := base64.StdEncoding.DecodeString(keyContext)
	if err != nil {
		t.Fatal(err)
	}
	okm, err := hkdf.Expand(sha256.New, secret, string(info), 32)
	if err != nil {
		t.Fatal(err)
	}
	return okm
}

// scalar returns the private scalar of a P-256 key: secret is PKCS #8 of a
// wrapped key, CKA_VALUE of an object.
func scalar(t *testing.T, name string, secret []byte, public string) []byte {
	t.Helper()
	var private *ecdsa.PrivateKey
	if key, err := x509.ParsePKCS8PrivateKey(secret); err == nil {
		private = key.(*ecdsa.PrivateKey)
		if secret, err = private.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	block, _ := pem.Decode([]byte(public))
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	curve := pub.(*ecdsa.PublicKey).Curve
	if private, err = ecdsa.ParseRawPrivateKey(curve, secret); err != nil || !private.PublicKey.Equal(pub) {
		t.Fatalf("%s: the secret is not that of the public key: %v", name, err)
	}
	return secret
}

// needle is one form of a secret.
type needle struct {
	name, form string
	bytes      []byte
}

// needles are the forms in which a secret might stand somewhere, as bytes or as a
// number without leading zeros.
func needles(sets ...map[string][]byte) []needle {
	var list []needle
	for _, set := range sets {
		for name, secret := range set {
			bare := bytes.TrimLeft(secret, "\x00") // stands in secret, too, but for base64
			reversed := bytes.Clone(bare)
			slices.Reverse(reversed)
			list = append(list, needle{name, "bytes", bare}, needle{name, "little-endian number", reversed},
				needle{name, "hex", []byte(hex.EncodeToString(bare))})
			for _, b := range [][]byte{secret, bare} {
				list = append(list, needle{name, "base64", []byte(base64.RawStdEncoding.EncodeToString(b))})
			}
			if len(secret)%4 == 0 { // an AES key in an expanded key of some machines
				words := bytes.Clone(secret)
				for w := range slices.Chunk(words, 4) {
					slices.Reverse(w)
				}
				list = append(list, needle{name, "little-endian words", words})
			}
		}
	}
	return list
}

// searchMemory returns in which form each secret stands in a process's memory.
func searchMemory(t *testing.T, pid int, list []needle) map[string]string {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Skipf("the memory of another process needs /proc and the right to trace it: %v", err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("the memory of another process needs the right to trace it: %v", err)
	}
	defer mem.Close()
	found, total := map[string]string{}, 0
	buf := make([]byte, 8<<20)
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var rights string
		// What is not writable is the program and its libraries.
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err != nil || !strings.HasPrefix(rights, "rw") {
			continue
		}
		const overlap = 256
		for at := from; at < to; at += int64(len(buf)) - overlap {
			n, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
			search(buf[:n], list, found)
			total += n
		}
	}
	if total < 1<<20 {
		t.Fatalf("only %d bytes of memory could be read", total)
	}
	return found
}

func search(text []byte, list []needle, found map[string]string) {
	for _, n := range list {
		if _, ok := found[n.name]; !ok && bytes.Contains(text, n.bytes) {
			found[n.name] = n.form
		}
	}
}

// searchFiles looks into the log and every file of the server.
func searchFiles(t *testing.T, s *harness.Server, list []needle) map[string]string {
	t.Helper()
	all, files := map[string]string{}, 0
	look := func(where string, text []byte) {
		found := map[string]string{}
		search(text, list, found)
		for name, form := range found {
			all[name] = where + ", as " + form
		}
	}
	look("the log", []byte(s.Log()))
	err := filepath.WalkDir(s.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		look(path, text)
		files++
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files were searched: %v", files, err)
	}
	return all
}
